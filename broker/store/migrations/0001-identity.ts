import type { Kysely } from 'kysely';

/** Devices and how they came to be, the keys that encrypt what must not be read, and the audit log. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { schema } = db;
  await schema
    .createTable('counters')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('value', 'bigint', (column) => column.notNull())
    .execute();

  await schema
    .createTable('invites')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('psk_sealed', 'text')
    .addColumn('products', 'text', (column) => column.notNull())
    .addColumn('device_name', 'text')
    .addColumn('email', 'text')
    .addColumn('created_by', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addColumn('used_at', 'bigint')
    .addColumn('daemon_key', 'text')
    .addColumn('device_id', 'text')
    .execute();

  await schema
    .createTable('devices')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('os', 'text', (column) => column.notNull())
    .addColumn('install_id', 'text', (column) => column.notNull())
    .addColumn('email', 'text')
    .addColumn('products', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('confirmed_at', 'bigint')
    .addColumn('rotate_asked_at', 'bigint')
    .addColumn('revoked_at', 'bigint')
    .addColumn('revoked_because', 'text')
    .execute();

  await schema
    .createTable('device_keys')
    .addColumn('keyid', 'text', (column) => column.primaryKey())
    .addColumn('device_id', 'text', (column) => column.notNull().references('devices.id'))
    .addColumn('algorithm', 'text', (column) => column.notNull())
    .addColumn('secret_sealed', 'text')
    .addColumn('public_key', 'text')
    .addColumn('daemon_key', 'text', (column) => column.notNull())
    .addColumn('broker_key', 'text')
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('epoch', 'bigint', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('first_used_at', 'bigint')
    .addColumn('not_after', 'bigint')
    .execute();
  // At most two keys of a device are live: the one in use, and the one it replaces.
  await schema
    .createIndex('device_keys_live')
    .on('device_keys')
    .columns(['device_id', 'state'])
    .unique()
    .where('state', 'in', ['active', 'retiring'])
    .execute();

  await schema
    .createTable('data_keys')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('kek', 'text', (column) => column.notNull())
    .addColumn('wrapped', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('uses', 'bigint', (column) => column.notNull())
    .execute();
  await schema
    .createTable('key_canaries')
    .addColumn('kek', 'text', (column) => column.primaryKey())
    .addColumn('sealed', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .execute();

  await schema
    .createTable('audit_chains')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('started_at', 'bigint', (column) => column.notNull())
    .addColumn('length', 'bigint', (column) => column.notNull())
    .addColumn('head', 'text', (column) => column.notNull())
    .execute();
  await schema
    .createTable('audit_entries')
    .addColumn('chain', 'text', (column) => column.notNull())
    .addColumn('n', 'bigint', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('actor', 'text', (column) => column.notNull())
    .addColumn('action', 'text', (column) => column.notNull())
    .addColumn('target', 'text', (column) => column.notNull())
    .addColumn('details', 'text', (column) => column.notNull())
    .addColumn('request_id', 'text')
    .addColumn('hash', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('audit_entries_pk', ['chain', 'n'])
    .execute();
  // For those who read the latest, and for nobody else: what is verified is read by chain.
  await schema.createIndex('audit_entries_at').on('audit_entries').column('at').execute();
  await schema
    .createTable('audit_checkpoints')
    .addColumn('n', 'bigint', (column) => column.primaryKey())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('heads', 'text', (column) => column.notNull())
    .addColumn('previous', 'text', (column) => column.notNull())
    .addColumn('key_id', 'text', (column) => column.notNull())
    .addColumn('signature', 'text', (column) => column.notNull())
    .execute();
  await schema
    .createTable('signing_keys')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('public_key', 'text', (column) => column.notNull())
    .addColumn('private_sealed', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .execute();
}
