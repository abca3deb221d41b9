/**
 * Where the KV of one KV head lives: per token a tier set and a codec, plus a ledger of bytes per tier and of
 * the bytes that crossed a boundary since the last drain. The only place where KV bytes change their home, so
 * conservation (bytes appended = bytes resident + bytes dropped) can be checked here.
 */
import { SimError } from '../error.ts';

/** Bit of a token's tier set. */
export const IN_HBM = 1;
export const IN_DRAM = 2;
export const IN_NVME = 4;

/** Tiers that hold the KV of a run. */
export type KvTier = 'hbm' | 'dram' | 'nvme';
const BITS: Readonly<Record<KvTier, number>> = { hbm: IN_HBM, dram: IN_DRAM, nvme: IN_NVME };

/** A stored form of K and V. Bytes are per token of one KV head; the raw form is codec 0. */
export interface StoredForm {
  readonly name: string;
  readonly kBytesPerToken: number;
  readonly vBytesPerToken: number;
  /** True where attention reads raw rows that declared work rebuilds from it. */
  readonly isRebuilt?: boolean;
  /** True where attention turns keys to their positions when it reads them. */
  readonly isTurned?: boolean;
}

/** Tokens that crossed a boundary, or changed form, since the last drain. */
export interface Movement {
  /** The fastest other tier that held them. */
  readonly from: KvTier;
  readonly to: KvTier;
  readonly form: number;
  tokens: number;
}

/** Tokens [from, to) that took another stored form. */
export interface Recoding {
  readonly form: number;
  readonly from: number;
  readonly to: number;
  /** Of them, those that are coded: some may stay raw within a block. */
  readonly tokens: number;
}

/** Index entries, scales and summaries that a policy keeps beside the KV; bytes of this KV head. */
export interface MetaBytes {
  hbm: number;
  dram: number;
}

export class HeadCache {
  readonly forms: readonly StoredForm[];
  readonly capacityTokens: number;
  /** Tier set per token: 0 = dropped or not yet written. */
  readonly place: Uint8Array;
  /** Stored form per token (index into `forms`). */
  readonly form: Uint8Array;
  /** Tokens written so far; positions are 0 .. tokens-1. */
  tokens = 0;
  /** Tokens that live in at least one tier. */
  liveTokens = 0;
  /** Copies per token in HBM: more than one where KV is replicated to query heads. DRAM holds one. */
  readonly copies: Uint8Array;
  /** Copies of a token that came to HBM since the last drain. */
  readonly arrived: Uint8Array;
  readonly movements: Movement[] = [];
  readonly recodings: Recoding[] = [];
  readonly meta = new Map<string, MetaBytes>();
  /** Slot of each token in DRAM where the policy lays out its raw rows itself; null = packed in token order. */
  farSlots: Int32Array | null = null;
  /** True where several policies change this cache: one may then move what another dropped, which stays dropped. */
  isShared = false;
  /**
   * Admission at a tier boundary: whether a token may enter that tier; one that is refused is dropped where it
   * would have moved, and not copied where it would have been kept. Null = all may.
   */
  admits: ((token: number, tier: KvTier) => boolean) | null = null;
  private readonly held: Readonly<Record<KvTier, number[]>>;

  constructor(capacityTokens: number, forms: readonly StoredForm[], copiesPerToken = 1) {
    if (forms.length === 0 || forms.length > 255)
      throw new SimError('invalid-input', 'a cache needs 1..255 stored forms');
    this.forms = forms;
    this.capacityTokens = capacityTokens;
    this.place = new Uint8Array(capacityTokens);
    this.form = new Uint8Array(capacityTokens);
    this.copies = new Uint8Array(capacityTokens).fill(copiesPerToken);
    this.arrived = new Uint8Array(capacityTokens);
    this.held = { hbm: forms.map(() => 0), dram: forms.map(() => 0), nvme: forms.map(() => 0) };
  }

  /** Writes `count` new tokens in raw form into HBM, where attention produced them. */
  append(count: number): void {
    const end = this.tokens + count;
    if (end > this.capacityTokens) {
      throw new SimError('capacity-exceeded', `cache of ${this.capacityTokens} tokens cannot take ${end}`);
    }
    this.place.fill(IN_HBM, this.tokens, end);
    for (let token = this.tokens; token < end; token++) this.held.hbm[0] += this.copies[token];
    this.liveTokens += count;
    this.tokens = end;
  }

  /** Keeps `count` copies of a live token (for the query heads that chose it); 0 drops it. */
  setCopies(token: number, count: number): void {
    const place = this.place[token];
    this.setPlace(token, 0);
    this.copies[token] = count;
    if (count > 0) this.setPlace(token, place);
  }

  /**
   * Holds `count` HBM copies of a token whose home is DRAM, one for each query head that has it in a slot; `entering` of
   * them were not there before and cross the link.
   */
  setSlots(token: number, count: number, entering: number): void {
    if ((this.place[token] & IN_DRAM) === 0)
      throw new SimError('invariant-broken', `token ${token} takes a slot in hbm, but dram does not hold it`);
    if (entering > 0) this.log(token, 'dram', 'hbm', entering);
    this.setPlace(token, IN_DRAM);
    this.copies[token] = Math.max(1, count);
    if (count > 0) this.setPlace(token, IN_DRAM | IN_HBM);
  }

  isLive(token: number): boolean {
    return this.place[token] !== 0;
  }

  /** Forgets tokens [from, to) in every tier. */
  drop(from: number, to: number): void {
    this.checkRange(from, to);
    for (let token = from; token < to; token++) this.setPlace(token, 0);
  }

  /** Copies tokens [from, to) to a tier; unless `keep`, copies in other tiers are freed. */
  move(from: number, to: number, tier: KvTier, keep = false): void {
    this.checkRange(from, to);
    const bit = BITS[tier];
    for (let token = from; token < to; token++) {
      const before = this.place[token];
      if (before === 0) {
        if (this.isShared) continue;
        throw new SimError('invariant-broken', `token ${token} moved to ${tier} after it was dropped`);
      }
      if ((before & bit) === 0 && this.admits?.(token, tier) === false) {
        if (!keep) this.setPlace(token, 0);
        continue;
      }
      if ((before & bit) === 0) this.log(token, fastestOf(before), tier, 1);
      this.setPlace(token, keep ? before | bit : bit);
    }
  }

  /**
   * Changes the stored form of tokens [from, to) where they are; the range is coded as one block. Tokens that `keeps`
   * names stay as they are inside it: the codec hands their rows through.
   */
  recode(from: number, to: number, form: number, keeps?: (token: number) => boolean): void {
    if (form < 0 || form >= this.forms.length) throw new SimError('invalid-input', `no stored form ${form}`);
    let tokens = 0;
    for (let token = from; token < to; token++) {
      if (keeps?.(token)) continue;
      tokens++;
      const place = this.place[token];
      if (place === 0 || this.form[token] === form) continue;
      this.setPlace(token, 0);
      this.form[token] = form;
      this.setPlace(token, place);
    }
    this.recodings.push({ form, from, to, tokens });
  }

  setMeta(name: string, tier: 'hbm' | 'dram', sizeBytes: number): void {
    const entry = this.meta.get(name) ?? { hbm: 0, dram: 0 };
    entry[tier] = sizeBytes;
    this.meta.set(name, entry);
  }

  tokensIn(tier: KvTier, form: number): number {
    return this.held[tier][form];
  }

  /** Bytes of KV and of metadata in a tier, for this KV head. NVMe holds KV alone. */
  residentBytes(tier: KvTier): number {
    let sizeBytes = 0;
    for (let form = 0; form < this.forms.length; form++) {
      sizeBytes +=
        this.tokensIn(tier, form) * (this.forms[form].kBytesPerToken + this.forms[form].vBytesPerToken);
    }
    if (tier !== 'nvme') for (const entry of this.meta.values()) sizeBytes += entry[tier];
    return sizeBytes;
  }

  /** Empties the movement and recoding logs. */
  drain(): void {
    if (this.movements.length > 0) this.arrived.fill(0, 0, this.tokens);
    this.movements.length = 0;
    this.recodings.length = 0;
  }

  /** A token before the first would make the counters lie; an empty range may lie anywhere. */
  private checkRange(from: number, to: number): void {
    if (from < to && (from < 0 || to > this.capacityTokens)) {
      throw new SimError('invariant-broken', `tokens ${from} to ${to} of a cache of ${this.capacityTokens}`);
    }
  }

  private setPlace(token: number, place: number): void {
    const before = this.place[token];
    if (before === place) return;
    const form = this.form[token];
    const copies = this.copies[token];
    const { hbm, dram, nvme } = this.held;
    hbm[form] += copies * ((place & IN_HBM) - (before & IN_HBM));
    dram[form] += ((place & IN_DRAM) - (before & IN_DRAM)) / IN_DRAM;
    nvme[form] += ((place & IN_NVME) - (before & IN_NVME)) / IN_NVME;
    if (before === 0) this.liveTokens++;
    else if (place === 0) this.liveTokens--;
    this.place[token] = place;
  }

  private log(token: number, from: KvTier, to: KvTier, copies: number): void {
    const form = this.form[token];
    if (to === 'hbm') this.arrived[token] += copies;
    for (const movement of this.movements) {
      if (movement.to === to && movement.from === from && movement.form === form) {
        movement.tokens += copies;
        return;
      }
    }
    this.movements.push({ from, to, form, tokens: copies });
  }
}

/** The fastest tier of a set. */
const fastestOf = (place: number): KvTier => {
  if ((place & IN_HBM) !== 0) return 'hbm';
  return (place & IN_DRAM) !== 0 ? 'dram' : 'nvme';
};
