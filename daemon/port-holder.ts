import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

const LISTENING = '0A';

/**
 * Which program listens on a port of this machine, as far as Linux tells: that of this user, or with enough rights any.
 * Undefined where nothing can be found out.
 */
export function findPortHolder(port: number, proc = '/proc'): string | undefined {
  const inodes = ['tcp', 'tcp6'].flatMap((table) => listenersIn(tryRead(`${proc}/net/${table}`), port));
  if (inodes.length === 0) return undefined;
  const sockets = new Set(inodes.map((inode) => `socket:[${inode}]`));
  for (const pid of tryList(proc).filter((name) => /^\d+$/.test(name))) {
    if (!tryList(`${proc}/${pid}/fd`).some((fd) => sockets.has(tryLink(`${proc}/${pid}/fd/${fd}`)))) continue;
    return `${tryRead(`${proc}/${pid}/comm`).trim() || 'a program'} (process ${pid})`;
  }
  return undefined;
}

// Columns: 1 the local address and port in hexadecimal, 3 the state, 9 the inode of the socket.
function listenersIn(table: string, port: number): string[] {
  const ending = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((columns) => columns[3] === LISTENING && columns[1]?.endsWith(ending) === true)
    .map((columns) => columns[9]!);
}

// Processes come and go while we look, and those of others are closed to us: neither is worth a word.
function tryRead(path: string): string {
  return orElse('', () => readFileSync(path, 'utf8'));
}

function tryList(path: string): string[] {
  return orElse([], () => readdirSync(path));
}

function tryLink(path: string): string {
  return orElse('', () => readlinkSync(path));
}

function orElse<T>(otherwise: T, read: () => T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
