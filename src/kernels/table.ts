import type { Kernel } from './kernel.ts';

/** Every kernel of the engine: the shader file, its entry point, and what each storage binding is used for. */
export const kernels = {
  unary: { files: ['unary'], entry: 'main', bindings: ['read', 'write'] },
  binary: { files: ['binary'], entry: 'main', bindings: ['read', 'read', 'write'] },
  expand: { files: ['expand'], entry: 'main', bindings: ['read', 'write'] },
  copy: { files: ['copy'], entry: 'main', bindings: ['read', 'write'] },
  reduce: { files: ['reduce'], entry: 'main', bindings: ['read', 'write'] },
  dense: { files: ['dense'], entry: 'main', bindings: ['read', 'read', 'write'] },
  denseVec4: { files: ['denseVec4'], entry: 'main', bindings: ['read', 'read', 'write'] },
  denseVec4Transposed: { files: ['denseVec4'], entry: 'transposed', bindings: ['read', 'read', 'write'] },
  conv2d: { files: ['conv2d'], entry: 'main', bindings: ['read', 'read', 'write'] },
  conv2dVec4: { files: ['conv2dVec4'], entry: 'main', bindings: ['read', 'read', 'write'] },
  conv2dInputGrad: { files: ['conv2dInputGrad'], entry: 'main', bindings: ['read', 'read', 'write'] },
  conv2dInputGradVec4: { files: ['conv2dInputGradVec4'], entry: 'main', bindings: ['read', 'read', 'write'] },
  filterSwap: { files: ['filterSwap'], entry: 'main', bindings: ['read', 'write'] },
  conv2dInputGradGather: { files: ['conv2dInputGradGather'], entry: 'main', bindings: ['read', 'write'] },
  conv2dWeightGrad: { files: ['conv2dWeightGrad'], entry: 'main', bindings: ['read', 'read', 'write'] },
  conv2dWeightGradVec4: { files: ['conv2dWeightGradVec4'], entry: 'main', bindings: ['read', 'read', 'write'] },
  momentsCentred: { files: ['moments'], entry: 'centred', bindings: ['read', 'read', 'write'] },
  momentsJoin: { files: ['moments'], entry: 'join', bindings: ['read', 'read', 'write'] },
  normalise: { files: ['normalise'], entry: 'main', bindings: ['read', 'read', 'read', 'read', 'write'] },
  batchNormSums: { files: ['batchNormGrad'], entry: 'sums', bindings: ['read', 'read', 'read', 'write'] },
  batchNormApplyGrad: {
    files: ['batchNormGrad'],
    entry: 'apply',
    bindings: ['read', 'read', 'read', 'read', 'read', 'write'],
  },
  random: { files: ['philox', 'random'], entry: 'main', bindings: ['read', 'write'] },
  sampleRows: { files: ['philox', 'sampleRows'], entry: 'main', bindings: ['read', 'write'] },
  unfold: { files: ['unfold'], entry: 'main', bindings: ['read', 'read', 'write'] },
  decode: { files: ['decode'], entry: 'main', bindings: ['read', 'write'] },
  finite: { files: ['finite'], entry: 'main', bindings: ['read', 'readwrite'] },
  increment: { files: ['increment'], entry: 'main', bindings: ['readwrite'] },
  ema: { files: ['ema'], entry: 'main', bindings: ['readwrite', 'read'] },
  adam: { files: ['optimiser'], entry: 'adam', bindings: ['readwrite', 'read', 'read'] },
  rmsProp: { files: ['optimiser'], entry: 'rmsProp', bindings: ['readwrite', 'read', 'read'] },
  sgd: { files: ['optimiser'], entry: 'sgd', bindings: ['readwrite', 'read', 'read'] },
} as const satisfies Record<string, Kernel>;

export type KernelName = keyof typeof kernels;
