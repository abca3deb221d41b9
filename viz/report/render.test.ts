/** The page's text: what it may load, what it escapes, what it leaves out and says so, that it is repeatable. */
import { createHash } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { fixtureComparison } from '../../test/comparison.ts';
import { type Payload, unpackPayload } from '../payload.ts';
import { type ReportInput, renderReport } from './render.ts';
import { type Client, loadClient } from './shell.ts';
import { thinTimelines } from './thin.ts';

const client: Client = { script: 'let a = "<b>" && 1;', style: 'p { color: red }' };
const comparison = fixtureComparison(3, 5);
const input: ReportInput = { ...comparison, replay: { available: false, reason: 'test' }, client };

const payloadOf = (html: string): Payload => {
  const text = /id="kvtier-payload">([^<]*)</.exec(html)?.[1] ?? '';
  const bytes = new Uint8Array(gunzipSync(Buffer.from(text, 'base64')));
  return unpackPayload(bytes.buffer);
};

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64');

describe('renderReport', () => {
  it('allows its own script and style by hash and nothing else', () => {
    const html = renderReport(input);
    const policy = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(html)?.[1] ?? '';
    expect(policy.split('; ')).toEqual([
      "default-src 'none'",
      `script-src 'sha256-${sha256(client.script)}' 'wasm-unsafe-eval'`,
      `style-src 'sha256-${sha256(client.style)}'`,
      'img-src data:',
      "base-uri 'none'",
      "form-action 'none'",
    ]);
    expect(html).not.toMatch(/https?:|(?<!wasm-)unsafe-|\ssrc=/);
  });

  it('carries everything that it was given', () => {
    const payload = payloadOf(renderReport(input));
    expect(payload).toEqual({ ...comparison, replay: input.replay, pageNotes: [] });
  });

  it('is the same text for the same input', () => {
    expect(renderReport(input)).toBe(renderReport(input));
  });

  it('escapes strings that stand outside the payload', () => {
    const evil = `</title><script>alert('x')</script>"&`;
    const { result } = comparison;
    const [first] = result.policies;
    const html = renderReport({
      ...input,
      result: {
        ...result,
        experiment: { model: evil, hardware: evil },
        policies: [{ ...first, policy: evil }],
      },
    });
    expect(html).not.toContain('<script>alert');
    expect(html).toContain('&lt;/title&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;');
  });

  it('says in one line what to do when the bundle is not built', () => {
    expect(() => loadClient('client', new URL('file:///nowhere/'))).toThrow(
      /^the page needs \/nowhere\/client\.js, which is not built: run "npm run build"$/,
    );
  });

  it('keeps whole steps, the first and the slowest among them, within the row limit', () => {
    const html = renderReport({ ...input, timelineRows: 500 });
    const payload = payloadOf(html);
    const rows = payload.timelines.reduce((sum, { timeline }) => sum + timeline.startNs.length, 0);
    expect(rows).toBeLessThanOrEqual(500);
    expect(payload.pageNotes[0]).toMatch(/^the timelines of this page hold \d+ of 50 steps/);
    for (const [i, { timeline }] of payload.timelines.entries()) {
      const whole = comparison.timelines[i].timeline;
      expect(timeline.step).toContain(0);
      for (const step of new Set(timeline.step)) {
        const count = (steps: Int32Array): number => steps.filter((value) => value === step).length;
        expect(count(timeline.step)).toBe(count(whole.step));
      }
    }
  });
});

describe('thinTimelines', () => {
  it('leaves small timelines alone and always keeps a step', () => {
    expect(thinTimelines(comparison.timelines, 1e6)).toEqual({
      timelines: comparison.timelines,
      pageNotes: [],
    });
    for (const { timeline } of thinTimelines(comparison.timelines, 1).timelines) {
      expect(new Set(timeline.step).size).toBe(1);
    }
  });
});
