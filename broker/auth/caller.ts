/** Whoever a request turned out to be. */
export type Caller = {
  /** A client of sallyport.yaml, or a desktop that was enrolled; people come to stand beside them. */
  kind: 'client' | 'device';
  /** The name of the client, or the id of the device: the same for as long as it lives, whatever its key. */
  name: string;
  keyid: string;
  /** The products this caller may use, by name. */
  products: readonly string[];
};

/** Left by authentication; no stage after it runs without one. */
export type WithCaller = { caller: Caller };
