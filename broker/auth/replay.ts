/** One use of a signature, as the replay store sees it. All times are whole seconds of the wall clock. */
export type Claim = {
  keyid: string;
  nonce: string;
  created: number;
  /** The last second in which this signature could be accepted. */
  lastSecond: number;
  nowSeconds: number;
};

/** `forgotten`: the store cannot know any more whether this one was used, so it must not be accepted. */
export type Verdict = { is: 'fresh' | 'used' | 'forgotten' } | { is: 'fenced' | 'crowded' | 'full'; seconds: number };

/**
 * Remembers which signatures were used. There is one store by configuration and no fallback to another:
 * two memories of what was used are a way to use it twice.
 */
export type ReplayStore = {
  claim(claim: Claim): Verdict | Promise<Verdict>;
  /** How long, from now, the store refuses everything because it may have forgotten something. */
  fencedForMs(nowMs: number): number;
};
