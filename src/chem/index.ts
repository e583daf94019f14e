/** Elements, formulas, the 85×8 encoding, data rules, validity and metrics: nothing here knows of a GPU. */
export * from './baseline.ts';
export * from './confidence.ts';
export * from './dataset.ts';
export * from './describe.ts';
export * from './distributions.ts';
export * from './elements.ts';
export * from './encoding.ts';
export * from './enumeration.ts';
export * from './formula.ts';
export * from './magpie.ts';
export * from './metrics.ts';
export * from './nearest.ts';
export { type Provenance, readProvenance } from './provenance.ts';
export * from './synth.ts';
export * from './validity.ts';
