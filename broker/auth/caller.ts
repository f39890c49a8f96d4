/** Whoever a request turned out to be. */
export type Caller = {
  /** A client of sallyport.yaml; devices and people come to stand beside it. */
  kind: 'client';
  name: string;
  /** The products this caller may use, by name. */
  products: readonly string[];
};

/** Left by authentication; no stage after it runs without one. */
export type WithCaller = { caller: Caller };
