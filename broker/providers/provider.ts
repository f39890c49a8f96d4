import type { Dispatcher } from 'undici';

/** What a provider can be asked for. */
export type Operation = 'chat' | 'embeddings';

/** A vendor's API with its credential: how to reach it and what is particular about it, as data. */
export type Provider = {
  name: string;
  /** The models it serves, or undefined when it takes any name. */
  models: readonly string[] | undefined;
  dispatcher: Dispatcher;
  origin: string;
  paths: Readonly<Record<Operation, string>>;
  /** The headers that prove who we are, made at the moment of sending. */
  credential: () => string[];
  /** The field in which this vendor takes the ceiling on the answer's length. */
  maxTokensField: 'max_tokens' | 'max_completion_tokens';
  timeouts: {
    /** Until the answer is announced, from there to its first byte, between two bytes, and altogether. */
    headersMs: number;
    firstByteMs: number;
    idleMs: number;
    totalMs: number;
  };
};
