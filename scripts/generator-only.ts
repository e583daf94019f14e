/** `npx tsx scripts/generator-only.ts CHECKPOINT FILE`: of a GAN's checkpoint what generating needs, a fifth of its size. */
import { readSafetensors, writeSafetensors } from '../src/models/safetensors.ts';

const [from, to] = process.argv.slice(2);
const { tensors, metadata } = readSafetensors(from);
const averaged = Object.keys(tensors).some((name) => name.startsWith('generator.average/'));
const wanted = ([name]: [string, unknown]): boolean =>
  name === 'step' ||
  name === 'generator.running' ||
  name.startsWith(averaged ? 'generator.average/' : 'generator/weights/');
writeSafetensors(to, Object.fromEntries(Object.entries(tensors).filter(wanted)), metadata);
