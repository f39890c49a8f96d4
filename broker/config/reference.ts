import { FILE_VARIABLE } from './environment.ts';
import { NAMED_SECTIONS, NAMES } from './names.ts';
import { Settings } from './schema.ts';
import { defaultOf, settingsIn } from './setting.ts';
import type { Row } from './setting.ts';

/** A whole configuration, as the reference shows it; a test reads it. */
export const EXAMPLE = `\
public_url: https://broker.example.com
public_authorities: [broker.internal:8443]
listen: { host: 0.0.0.0, port: 8080 }
data: ./data
trusted_proxy_hops: 1
log: { level: info }
limits:
  body_bytes: 26214400
  body_seconds: 60
  connections: 10000
  address: { burst: 500, per_second: 250 }

providers:
  openai:
    kind: openai
    api_key: \${OPENAI_API_KEY:?create one in the console of OpenAI}
    models: [gpt-4o, gpt-4o-mini]
  house-model:
    kind: openai-compatible
    base_url: http://127.0.0.1:11434/v1
    allow_private: true
    models: [llama3.3]
    timeouts: { headers_seconds: 120 }
  echo: { kind: echo, models: [echo] }

products:
  product-a:
    models: [gpt-4o, 'gpt-4o-*']
    max_tokens: 8192
    temperature: [0, 1.5]
    rate: { burst: 10, per_second: 5, per_day: 200000 }
  trial: { models: [llama3.3, echo] }

clients:
  desktop:
    secret: \${DESKTOP_SECRET}
    products: [product-a, trial]
  robot:
    # The example of RFC 8032, whose private half everybody knows; put your own here.
    public_key: 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
    products: [trial]
`;

/** Prints docs/configuration.md. What it says of each setting stands beside the setting, in schema.ts. */
export function reference(): string {
  const rows = [...settingsIn(Settings)];
  const isNamed = ({ path: [section] }: Row) => NAMED_SECTIONS.some((named) => named === section);
  const parts = [
    INTRODUCTION,
    `## A whole example\n\n\`\`\`yaml\n${EXAMPLE}\`\`\``,
    `## The broker\n\n${table(rows.filter((row) => !isNamed(row)))}`,
    ...NAMED_SECTIONS.map((section) => {
      const [head, ...inner] = rows.filter(({ path }) => path[0] === section);
      return `## ${section}\n\n${head?.about.says} ${NAMES[section].says}\n\n${table(inner)}`;
    }),
    VARIABLES,
    `## Environment\n\n${ENVIRONMENT}\n\n${tableOfVariables(rows)}`,
  ];
  return `${parts.join('\n\n')}\n`;
}

const INTRODUCTION = `\
<!-- Printed by \`npm run docs\` from broker/config/. Change it there; a test compares the two. -->

# Configuration

The broker reads one YAML file and its environment, once, when it starts. The file is the one that \`--config\` names, else
the one that \`${FILE_VARIABLE}\` names, else \`sallyport.yaml\` in the current folder, if there is one. Everything has a
default: a broker without a file starts, and serves nobody.

A mistake stops the start. All of them are reported at once, each with its line and with what to do:

\`\`\`sh
bin/sallyport-broker config check --config sallyport.yaml
\`\`\``;

const VARIABLES = `\
## Variables in the file

${markdown(
  [
    { Written: '`${NAME}`', Becomes: 'the value of the variable; it is a mistake when the variable is not set' },
    { Written: '`${NAME:-default}`', Becomes: 'its value, or `default` when it is not set or empty' },
    { Written: '`${NAME:?message}`', Becomes: 'its value; when it is not set or empty, a mistake that says `message`' },
    { Written: '`$${`', Becomes: 'a plain `${`' },
  ],
  ['Written', 'Becomes'],
)}

- They are filled in after YAML has been read, and once: what a variable holds is never read as YAML, nor filled in again.
- Only values have them, names do not.
- A value that is one variable and nothing else may stand for a number, for \`true\` or \`false\`, or for a list: write
  commas between its items.
- They need no quotes, not even inside \`{ }\` and \`[ ]\`.
- Make a secret with \`echo "hex:$(openssl rand -hex 32)"\`.`;

const ENVIRONMENT = `\
A variable beats the file. An empty one counts as not set. A name that begins with \`SALLYPORT_\` and is not in this table is
a mistake, unless the file mentions it.`;

function table(rows: Row[]): string {
  const cells = rows.map(({ path, about, schema }) => ({
    Setting: `\`${path.join('.').replace('*', '<name>')}\``,
    Default: about.otherwise ?? inYaml(defaultOf(schema)),
    Environment: about.env === undefined ? '' : `\`${about.env}\``,
    Meaning: `${about.says} Write ${about.wants}.`,
  }));
  const isSet = cells.some((row) => row.Environment !== '');
  return markdown(cells, isSet ? ['Setting', 'Default', 'Environment', 'Meaning'] : ['Setting', 'Default', 'Meaning']);
}

function tableOfVariables(rows: Row[]): string {
  const file = { Variable: `\`${FILE_VARIABLE}\``, Sets: 'the path of the file' };
  const others = rows.flatMap(({ path, about }) =>
    about.env === undefined ? [] : [{ Variable: `\`${about.env}\``, Sets: `\`${path.join('.')}\`` }],
  );
  return markdown([file, ...others], ['Variable', 'Sets']);
}

function inYaml(otherwise: { value: unknown } | 'required'): string {
  return otherwise === 'required' ? 'required' : `\`${String(otherwise.value)}\``;
}

// Padded as prettier pads tables, so that the printed file passes its check.
function markdown<Column extends string>(rows: Record<Column, string>[], columns: Column[]): string {
  const widths = columns.map((column) => Math.max(column.length, ...rows.map((row) => row[column].length)));
  const line = (cells: string[]) => `| ${cells.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join(' | ')} |`;
  return [
    line(columns),
    line(widths.map((width) => '-'.repeat(width))),
    ...rows.map((row) => line(columns.map((column) => row[column]))),
  ].join('\n');
}
