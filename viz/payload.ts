/**
 * What a report page carries: the result, the timelines and whether it can be re-run, as one binary block.
 * Layout: u32 header length (little-endian), JSON header padded to 8 bytes, then each timeline's columns, 8-aligned.
 * Isomorphic: the report writer packs, the page unpacks.
 */
import type { CompareResult } from '../sim/result.ts';
import type { Timeline } from '../sim/timing/timeline.ts';

export interface PolicyTimeline {
  readonly policy: string;
  readonly timeline: Timeline;
}

/** Whether the page can run the experiment itself; `needsTrace` names the file that the reader must open first. */
export interface ReplayOffer {
  readonly available: boolean;
  readonly reason?: string | undefined;
  readonly needsTrace?: string | undefined;
}

export interface Payload {
  readonly result: CompareResult;
  readonly timelines: readonly PolicyTimeline[];
  readonly replay: ReplayOffer;
  /** Lines about the page itself, such as which steps of the timelines it leaves out. */
  readonly pageNotes: readonly string[];
}

interface TimelineHeader {
  readonly policy: string;
  readonly rows: number;
  readonly kinds: readonly string[];
  readonly streams: Timeline['streams'];
}

interface Header {
  readonly result: CompareResult;
  readonly replay: ReplayOffer;
  readonly pageNotes: readonly string[];
  readonly timelines: readonly TimelineHeader[];
}

const align = (offset: number): number => (offset + 7) & ~7;

const columnsOf = (timeline: Timeline): readonly ArrayBufferView[] => [
  timeline.startNs,
  timeline.endNs,
  timeline.bytes,
  timeline.step,
  timeline.layer,
  timeline.kind,
  timeline.stream,
];

/** Packs a payload; `unpackPayload` gives an equal one back. */
export const packPayload = (payload: Payload): Uint8Array => {
  const header: Header = {
    result: payload.result,
    replay: payload.replay,
    pageNotes: payload.pageNotes,
    timelines: payload.timelines.map(({ policy, timeline }) => ({
      policy,
      rows: timeline.startNs.length,
      kinds: timeline.kinds,
      streams: timeline.streams,
    })),
  };
  const json = new TextEncoder().encode(JSON.stringify(header));
  const columns = payload.timelines.flatMap(({ timeline }) => columnsOf(timeline));
  const start = align(4 + json.length);
  const sizeBytes = columns.reduce((offset, column) => align(offset + column.byteLength), start);
  const packed = new Uint8Array(sizeBytes);
  new DataView(packed.buffer).setUint32(0, json.length, true);
  packed.set(json, 4);
  let offset = start;
  for (const column of columns) {
    packed.set(new Uint8Array(column.buffer, column.byteOffset, column.byteLength), offset);
    offset = align(offset + column.byteLength);
  }
  return packed;
};

/** Reads what `packPayload` wrote; the columns are views of `packed`, which must start at offset 0 of its buffer. */
export const unpackPayload = (packed: ArrayBuffer): Payload => {
  const jsonBytes = new DataView(packed).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(packed, 4, jsonBytes))) as Header;
  let offset = align(4 + jsonBytes);
  const take = (sizeBytes: number): number => {
    const at = offset;
    offset = align(offset + sizeBytes);
    return at;
  };
  const timelines = header.timelines.map(({ policy, rows, kinds, streams }): PolicyTimeline => {
    const startNs = new Float64Array(packed, take(rows * 8), rows);
    const endNs = new Float64Array(packed, take(rows * 8), rows);
    const bytes = new Float64Array(packed, take(rows * 8), rows);
    const step = new Int32Array(packed, take(rows * 4), rows);
    const layer = new Int16Array(packed, take(rows * 2), rows);
    const kind = new Uint8Array(packed, take(rows), rows);
    const stream = new Uint8Array(packed, take(rows), rows);
    return { policy, timeline: { kinds, streams, startNs, endNs, kind, stream, layer, step, bytes } };
  });
  return { result: header.result, replay: header.replay, pageNotes: header.pageNotes, timelines };
};
