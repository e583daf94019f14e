/** Ops from a module of the user's: what TypeScript would have refused is refused at run time. */
import { ConfigError } from '../errors.ts';
import { type Op, type OpTable, sizeOf } from './graph.ts';
import { ops } from './ops/index.ts';

type Fields = Record<string, unknown>;

const isObject = (v: unknown): v is Fields => typeof v === 'object' && v !== null && !Array.isArray(v);
const isFunction = (v: unknown): boolean => typeof v === 'function';
const isWhole = (v: unknown, least: number): boolean => Number.isSafeInteger(v) && (v as number) >= least;
const isShape = (v: unknown): v is number[] => Array.isArray(v) && v.every((d) => isWhole(d, 1));
const isType = (v: unknown): boolean => v === 'f32' || v === 'u32';
const draws = ['normal', 'away', 'positive', 'unit', 'distinct'];
const lowerings = ['kernels', 'expand', 'view', 'pack'];

/** Each field of a row: what it takes, and a test; optional ones may be undefined. */
const fields: Record<keyof Op, { takes: string; is: (v: unknown) => boolean; optional?: true }> = {
  summary: { takes: 'a line of text', is: (v) => typeof v === 'string' && v !== '' },
  dtype: { takes: "'f32' or 'u32'", is: isType, optional: true },
  inputTypes: {
    takes: "a list of 'f32' and 'u32'",
    is: (v) => Array.isArray(v) && v.every(isType),
    optional: true,
  },
  shape: { takes: 'a function (inputs, attrs) => shape', is: isFunction },
  vjp: {
    takes: "a function (node, cotangent) => thunks, or { none: 'why' }",
    is: (v) => isFunction(v) || (isObject(v) && typeof v.none === 'string'),
  },
  reference: { takes: 'a function (inputs, attrs, out)', is: isFunction },
  roundings: { takes: 'a function (node) => number', is: isFunction },
  lowering: {
    takes: `an object with one function, ${lowerings.join(', ')}, and inPlace, if anything, beside kernels`,
    is: (v) => {
      if (!isObject(v)) return false;
      const { inPlace, ...rest } = v;
      const [only, ...more] = Object.keys(rest);
      const place = inPlace === undefined || (only === 'kernels' && isWhole(inPlace, 0));
      return more.length === 0 && lowerings.includes(only) && isFunction(rest[only]) && place;
    },
  },
  samples: { takes: 'a list of at least one sample', is: (v) => Array.isArray(v) && v.length > 0 },
  errors: { takes: 'a list of calls that it must refuse, which may be empty', is: Array.isArray },
};

/**
 * A table of ops, checked; `source` is what messages call it.
 * @throws ConfigError that names op and field
 */
export function checkTable(table: unknown, source: string): OpTable {
  if (!isObject(table)) throw new ConfigError(`${source}: its ops are no table { name: row }`);
  if (Object.keys(table).length === 0) throw new ConfigError(`${source}: its table of ops is empty`);
  for (const [name, row] of Object.entries(table)) checkRow(row, `${source}: op ${name}`, name);
  return table as OpTable;
}

function checkRow(row: unknown, at: string, name: string): void {
  if (name in ops) throw new ConfigError(`${at}: the engine has an op of this name; give it another`);
  if (['variable', 'constant', 'placeholder'].includes(name)) {
    throw new ConfigError(`${at}: the name is taken by a leaf of graphs; give it another`);
  }
  if (!isObject(row)) throw new ConfigError(`${at}: it is no row of a table but ${show(row)}`);
  for (const [field, { takes, is, optional }] of Object.entries(fields)) {
    const value = row[field];
    if (value === undefined && !optional) throw new ConfigError(`${at}: ${field} is missing; it takes ${takes}`);
    if (value !== undefined && !is(value))
      throw new ConfigError(`${at}: ${field} is ${show(value)}; it takes ${takes}`);
  }
  const unknown = Object.keys(row).find((field) => !(field in fields));
  if (unknown) throw new ConfigError(`${at}: ${unknown} is no field; there are ${Object.keys(fields).join(', ')}`);
  (row.samples as unknown[]).forEach((sample, i) => {
    checkSample(sample, `${at}: samples[${i}]`);
  });
  (row.errors as unknown[]).forEach((error, i) => {
    const good = isObject(error) && Array.isArray(error.shapes) && error.shapes.every(isShape);
    if (good && error.message instanceof RegExp) return;
    throw new ConfigError(`${at}: errors[${i}] is ${show(error)}; it takes { shapes, message: /…/, attrs? }`);
  });
}

/** @throws ConfigError naming what is wrong with a sample; `at` is what messages call it */
export function checkSample(sample: unknown, at: string): void {
  if (!isObject(sample) || !Array.isArray(sample.inputs) || sample.inputs.length === 0) {
    throw new ConfigError(`${at} is ${show(sample)}; it takes { inputs: [at least one], attrs? }`);
  }
  sample.inputs.forEach((input: unknown, k) => {
    const here = `${at}.inputs[${k}]`;
    if (!isObject(input) || !isShape(input.shape)) {
      throw new ConfigError(
        `${here} is ${show(input)}; it takes { shape: whole numbers of at least 1, draw or values }`,
      );
    }
    const { shape, draw, values, dtype } = input;
    if (values === undefined) {
      if (draws.includes(draw as string)) return;
      throw new ConfigError(`${here}: draw is ${show(draw)}; it takes ${draws.join(', ')}, or values in its place`);
    }
    if (!Array.isArray(values) || values.length !== sizeOf(shape) || !values.every((v) => typeof v === 'number')) {
      throw new ConfigError(`${here}: values are no list of ${sizeOf(shape)} numbers, which [${shape}] wants`);
    }
    if (dtype !== undefined && !isType(dtype)) throw new ConfigError(`${here}: dtype is ${show(dtype)}; f32 or u32`);
  });
}

/** A value in a few words. */
function show(value: unknown): string {
  if (typeof value === 'function') return 'a function';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
