/** Hostile configurations: every leaf of every preset replaced by values of the wrong kind and size, and texts that are no YAML. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { topological } from '../../src/autograd/graph.ts';
import { checkConfig, loadConfig, type ModelKind, presetNames } from '../../src/models/config.ts';
import { makeTrainer } from '../../src/models/run.ts';
import { packageRoot } from '../../src/paths.ts';
import { Choose } from './choose.ts';
import { hold, shown, type Tally } from './tally.ts';

/** Instead of each leaf and each branch. */
export const hostileLeaves: readonly unknown[] = [
  ...[0, -1, 1, 0.5, 64, 4096, 16_384, 65_536, 2 ** 31, 2 ** 53, 1e308, Number.NaN, Infinity, -Infinity],
  ...['', 'none', '4', '__proto__', 'a\nb', 'x'.repeat(10_000), null, true, [], {}, [[]], [1, 2, 3], { name: 'adam' }],
  Array(65).fill({ filters: 4096, kernel: [64, 64], strides: [1, 1] }),
  Array(32).fill(16_384),
];

/** What is promised of settings that are accepted: a model of bounded size within a second, and no prototype touched. */
export function checkSettings(load: () => ReturnType<typeof checkConfig>): void {
  const config = load();
  hold(!('polluted' in {}), 'Object.prototype was changed');
  const trainer = makeTrainer(config, 1000);
  const nodes = topological([...Object.values(trainer.outputs), ...trainer.updates.map(([, value]) => value)]);
  hold(nodes.length < 300_000, `${nodes.length} nodes`);
}

const kindOf = (preset: string): ModelKind => presetTree(preset).model as ModelKind;
const presetTree = (preset: string): Record<string, unknown> =>
  parse(readFileSync(`${packageRoot}/data/presets/${preset}.yaml`, 'utf8'));

type Path = (string | number)[];

/** Paths of every leaf and branch of a tree. */
function paths(value: unknown, path: Path = []): Path[] {
  const own = path.length ? [path] : [];
  if (value === null || typeof value !== 'object') return own;
  return [
    ...own,
    ...Object.entries(value).flatMap(([key, inner]) =>
      paths(inner, [...path, Array.isArray(value) ? Number(key) : key]),
    ),
  ];
}

function replaced(tree: unknown, [key, ...rest]: Path, by: unknown): unknown {
  if (key === undefined) return by;
  const copy = (Array.isArray(tree) ? [...tree] : { ...(tree as object) }) as Record<string | number, unknown>;
  copy[key] = replaced(copy[key], rest, by);
  return copy;
}

/** Every leaf and branch of every preset (or of one) replaced by each hostile value. */
export function walkPresets(tally: Tally, _folder: string, share = 1, presets = presetNames()): void {
  const choose = new Choose(1, 'walk');
  for (const preset of presets) {
    const tree = presetTree(preset);
    for (const path of paths(tree)) {
      for (const value of hostileLeaves) {
        if (!choose.chance(share)) continue;
        const changed = replaced(tree, path, value);
        tally.attempt(
          () => `${preset}: ${path.join('.')} = ${JSON.stringify(value)?.slice(0, 200)}`,
          () => checkSettings(() => checkConfig(changed, 'walk')),
        );
      }
    }
  }
}

const pieces = [
  ...[
    '&a',
    '*a',
    '<<: *a',
    '!!js/function',
    '!!binary',
    '!!set',
    '!!omap',
    '? ',
    '- ',
    ': ',
    '|',
    '>',
    '---',
    '...',
    '{',
  ],
  ...[
    '}',
    '[',
    ']',
    ',',
    '#',
    '"',
    "'",
    '\t',
    '\n',
    '%YAML 1.1\n',
    '.inf',
    '.nan',
    '0o17',
    '0x1F',
    '1e400',
    '~',
    'null',
  ],
  ...['__proto__', 'constructor', 'toString', '\u0000', '\ufeff', '😀', '@', '`', '2020-01-01', 'yes', '1_000', '4096'],
];

/** Texts that are hard on a reader of YAML, by name. */
export const namedConfigs: Record<string, string> = {
  'a billion laughs': ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
    .concat(Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`).join()}]`))
    .join('\n'),
  'a model that is itself': 'model: &a [*a]',
  'a mapping that is itself': '&a { generator: *a }',
  'a key that is itself': '? &a [*a]\n: 1',
  'nested 400,000 deep': '['.repeat(400_000),
  'mappings nested 100,000 deep': '{a: '.repeat(100_000),
  'lists nested 10,000 deep by dashes': '- '.repeat(10_000),
  'indented 1,300 deep': Array.from({ length: 1300 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'),
  '500,000 anchors': '&a '.repeat(300_000),
  '100,000 keys': Array.from({ length: 100_000 }, (_, i) => `k${i}: 1`).join('\n'),
  'the same key 50,000 times': 'batch: 1\n'.repeat(50_000),
  'a key of 900,000 characters': `${'k'.repeat(900_000)}: 1`,
  'a number of 900,000 digits': `batch: ${'9'.repeat(900_000)}`,
  '900,000 quotes': '"'.repeat(900_000),
  '900,000 blanks': `batch:${' '.repeat(900_000)}1`,
  '300,000 documents': '---\n'.repeat(225_000),
  '200,000 tags': '!x '.repeat(300_000),
  '400,000 comments': '#\n'.repeat(450_000),
  'prototypes by key': '{"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}}',
  'prototypes within':
    'generator: { __proto__: { polluted: 1 } }\nbatchNorm: { constructor: { prototype: { polluted: 1 } } }',
  'a merge of prototypes': 'x: &a { __proto__: { polluted: 1 } }\nbatchNorm: { <<: *a }',
  'a key with a line break': '"a\\nb\\e[2J": 1',
  'bytes that are no text': '\ufffd\ufffd\u0001\u0002',
};

/** Schema-valid settings whose networks no machine should be asked for. */
export const hugeConfigs: Record<string, object> = {
  'filters 4096 × 64 layers': {
    critic: {
      kind: 'conv',
      layers: Array(64).fill({ filters: 4096, kernel: [3, 3], strides: [1, 1] }),
      norm: 'batch',
      activation: 'relu',
      initial: 'he',
    },
  },
  'kernels of 64 × 64': { critic: { layers: Array(8).fill({ filters: 256, kernel: [64, 64], strides: [1, 1] }) } },
  '32 layers of 16,384': {
    critic: { kind: 'dense', hidden: Array(32).fill(16_384), norm: 'none', activation: 'relu', initial: 'he' },
  },
  'a head of 85 × 8 × 4096': {
    generator: {
      latent: 4096,
      head: [85, 8, 4096],
      layers: [{ filters: 1, kernel: [1, 1], strides: [1, 1], size: [85, 8] }],
    },
  },
  'few weights, many activations': {
    batch: 65_536,
    critic: {
      layers: Array(32)
        .fill([4096, 1])
        .flat()
        .map((filters) => ({ filters, kernel: [1, 1], strides: [1, 1] })),
    },
  },
  'a batch of 65,536': { batch: 65_536 },
  '100 critic steps of 64 layers': {
    criticSteps: 100,
    critic: { layers: Array(64).fill({ filters: 1, kernel: [1, 1], strides: [1, 1] }) },
  },
};

export function loadText(file: string, text: string, preset = 'icsd'): ReturnType<typeof checkConfig> {
  writeFileSync(file, text);
  return loadConfig(kindOf(preset), { preset, file });
}

export function fuzzConfigs(tally: Tally, folder: string, count: number, seed: number): void {
  const choose = new Choose(seed, 'configs');
  const file = join(folder, 'own.yaml');
  const named = { ...namedConfigs };
  for (const [name, huge] of Object.entries(hugeConfigs)) named[name] = JSON.stringify(huge);
  // Whole, which is refused by its size, and as much as is read.
  for (const [name, text] of Object.entries(named).flatMap(([n, t]) => [
    [n, t] as const,
    [n, t.slice(0, 32_000)] as const,
  ])) {
    tally.attempt(
      () => name,
      () => checkSettings(() => loadText(file, text)),
    );
  }
  // The demo's networks are made in a millisecond or two.
  const texts = ['demo', 'demo-ae'].map((preset) => ({
    preset,
    text: readFileSync(`${packageRoot}/data/presets/${preset}.yaml`, 'utf8').replace(/^#.*\n/gm, ''),
  }));
  for (let i = 0; i < count; i++) {
    const { preset, text } = choose.of(texts);
    const changed = choose.chance(0.05)
      ? choose.bytes(choose.size(2000)).toString('latin1')
      : choose.mutate(text, pieces);
    tally.attempt(
      () => shown(changed),
      () => checkSettings(() => loadText(file, changed, preset)),
    );
  }
}
