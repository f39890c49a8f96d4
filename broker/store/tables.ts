// What the tables hold, as the programs see it. Times are milliseconds since 1970; lists and maps are JSON; what ends in
// `_sealed` was sealed by envelope.ts and is useless without the key ring.

/** A number that several processes count up together. */
export type Counter = { name: 'identity_revision' | 'min_key_epoch'; value: number };

export type Invite = {
  /** The first four letters of the code. */
  id: string;
  /** What proves the rest of the code; gone once its device has been heard. */
  psk_sealed: string | null;
  products: string;
  device_name: string | null;
  email: string | null;
  created_by: string;
  created_at: number;
  expires_at: number;
  used_at: number | null;
  /** Whose request used it: the same desktop may ask again, another may not. */
  daemon_key: string | null;
  device_id: string | null;
};

export type Device = {
  id: string;
  name: string;
  os: string;
  install_id: string;
  email: string | null;
  products: string;
  created_at: number;
  /** When its first signature was verified. A device that is never heard is swept away. */
  confirmed_at: number | null;
  rotate_asked_at: number | null;
  revoked_at: number | null;
  revoked_because: string | null;
};

export type DeviceKey = {
  keyid: string;
  device_id: string;
  algorithm: 'hmac-sha256' | 'ed25519';
  secret_sealed: string | null;
  public_key: string | null;
  daemon_key: string;
  /** Kept so that a desktop that missed the answer gets the same one again. */
  broker_key: string | null;
  state: 'active' | 'retiring' | 'gone';
  /** Below the counter min_key_epoch a key is dead: that is how all are revoked at once. */
  epoch: number;
  created_at: number;
  first_used_at: number | null;
  not_after: number | null;
};

/** A key that encrypts data, wrapped by one of the key ring. */
export type DataKey = { id: string; kek: string; wrapped: string; created_at: number; uses: number };

/** Something known, sealed by a key of the ring: it opens, or the ring has changed. */
export type KeyCanary = { kek: string; sealed: string; created_at: number };

export type AuditChain = { id: string; started_at: number; length: number; head: string };

export type AuditEntry = {
  chain: string;
  n: number;
  at: number;
  actor: string;
  action: string;
  target: string;
  details: string;
  request_id: string | null;
  hash: string;
};

export type AuditCheckpoint = {
  n: number;
  at: number;
  heads: string;
  previous: string;
  key_id: string;
  signature: string;
};

export type SigningKeyRow = { id: string; public_key: string; private_sealed: string; created_at: number };

export type Tables = {
  counters: Counter;
  invites: Invite;
  devices: Device;
  device_keys: DeviceKey;
  data_keys: DataKey;
  key_canaries: KeyCanary;
  audit_chains: AuditChain;
  audit_entries: AuditEntry;
  audit_checkpoints: AuditCheckpoint;
  signing_keys: SigningKeyRow;
  migrations: { name: string; applied_at: number };
};
