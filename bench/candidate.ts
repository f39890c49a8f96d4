import type { Machine } from './machine.ts';
import type { ProcessGroup } from './process-group.ts';
import type { Ask, RequestSource } from './request-source.ts';

/** The order of the tables. */
export const CANDIDATE_NAMES = ['broker', 'raw', 'nginx', 'portkey'] as const;

export type CandidateName = (typeof CANDIDATE_NAMES)[number];

/** What a candidate needs to know to start: it gets a folder of its own and keeps to it. */
export type Site = {
  folder: string;
  port: number;
  mockPort: number;
  machine: Machine;
};

/** Something that can be asked: a candidate, or the mock itself. */
export type Target = {
  port: number;
  /** Requests of one shape, as this target wants to be asked. */
  source: (ask: Ask) => RequestSource;
};

/** A candidate that answers. */
export type Running = Target & {
  name: CandidateName;
  process: ProcessGroup;
};

/** One thing people put in front of a model vendor, and how to start it. */
export type Candidate = {
  name: CandidateName;
  title: string;
  /** Why it cannot be started on this machine, in one line; undefined when it can. */
  missing: (machine: Machine) => string | undefined;
  start: (site: Site) => Promise<Running>;
};
