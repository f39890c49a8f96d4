/** What every backend can do. Names and values were checked before they come here. */
export type Items = {
  get(name: string): Promise<Buffer | undefined>;
  set(name: string, value: Buffer): Promise<void>;
  delete(name: string): Promise<void>;
  /** Said in the status for as long as this backend is used. */
  warning?: string;
};
