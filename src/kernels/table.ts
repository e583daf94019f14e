import type { Kernel } from './kernel.ts';

/**
 * Every kernel of the engine: the shader files, its entry point, and what each storage binding is used for. Those that begin with
 * `finishNone` have a place for an epilogue; tiled products are in tile.ts, one for each combination.
 */
export const kernels = {
  unary: { files: ['unary'], entry: 'main', bindings: ['read', 'write'] },
  binary: { files: ['binary'], entry: 'main', bindings: ['read', 'read', 'write'] },
  expand: { files: ['expand'], entry: 'main', bindings: ['read', 'write'] },
  copy: { files: ['copy'], entry: 'main', bindings: ['read', 'write'] },
  reduce: { files: ['reduce'], entry: 'main', bindings: ['read', 'write'] },
  dense: { files: ['dense'], entry: 'main', bindings: ['read', 'read', 'write'] },
  denseVec4: { files: ['finishNone', 'denseVec4'], entry: 'main', bindings: ['read', 'read', 'write'] },
  denseVec4Transposed: { files: ['finishNone', 'denseVec4'], entry: 'transposed', bindings: ['read', 'read', 'write'] },
  conv2d: { files: ['conv2d'], entry: 'main', bindings: ['read', 'read', 'write'] },
  conv2dVec4: { files: ['finishNone', 'conv2dVec4'], entry: 'main', bindings: ['read', 'read', 'write'] },
  conv2dInputGrad: { files: ['conv2dInputGrad'], entry: 'main', bindings: ['read', 'read', 'write'] },
  conv2dInputGradVec4: {
    files: ['finishNone', 'conv2dInputGradVec4'],
    entry: 'main',
    bindings: ['read', 'read', 'write'],
  },
  filterSwap: { files: ['filterSwap'], entry: 'main', bindings: ['read', 'write'] },
  conv2dInputGradGather: { files: ['conv2dInputGradGather'], entry: 'main', bindings: ['read', 'write'] },
  conv2dWeightGrad: { files: ['conv2dWeightGrad'], entry: 'main', bindings: ['read', 'read', 'write'] },
  conv2dWeightGradVec4: { files: ['conv2dWeightGradVec4'], entry: 'main', bindings: ['read', 'read', 'write'] },
  conv2dInputGradDirect: {
    files: ['finishNone', 'convSizes', 'conv2dInputGradDirect'],
    entry: 'main',
    bindings: ['read', 'read', 'write'],
  },
  conv2dWeightGradDirect: {
    files: ['convSizes', 'conv2dWeightGradDirect'],
    entry: 'main',
    bindings: ['read', 'read', 'write'],
  },
  denseDot: { files: ['finishNone', 'tree', 'denseDot'], entry: 'main', bindings: ['read', 'read', 'write'] },
  biasActivate: { files: ['activate', 'biasActivate'], entry: 'main', bindings: ['read', 'read', 'write'] },
  addShares: { files: ['activate', 'addShares'], entry: 'main', bindings: ['read', 'write'] },
  addSharesMasked: { files: ['activate', 'addShares'], entry: 'masked', bindings: ['read', 'read', 'write'] },
  addSharesBiased: { files: ['activate', 'addShares'], entry: 'biased', bindings: ['read', 'read', 'write'] },
  reduceTree: { files: ['tree', 'reduceTree'], entry: 'main', bindings: ['read', 'write'] },
  momentsStretches: { files: ['tree', 'momentsTree'], entry: 'stretches', bindings: ['read', 'write'] },
  momentsCombine: { files: ['tree', 'momentsTree'], entry: 'combine', bindings: ['read', 'write'] },
  batchNormSumsTree: {
    files: ['tree', 'batchNormSumsTree'],
    entry: 'main',
    bindings: ['read', 'read', 'read', 'write'],
  },
  momentsCentred: { files: ['moments'], entry: 'centred', bindings: ['read', 'read', 'write'] },
  momentsJoin: { files: ['moments'], entry: 'join', bindings: ['read', 'read', 'write'] },
  normalise: { files: ['activate', 'normalise'], entry: 'main', bindings: ['read', 'read', 'read', 'read', 'write'] },
  batchNormSums: { files: ['batchNormGrad'], entry: 'sums', bindings: ['read', 'read', 'read', 'write'] },
  batchNormApplyGrad: {
    files: ['batchNormGrad'],
    entry: 'apply',
    bindings: ['read', 'read', 'read', 'read', 'read', 'write'],
  },
  random: { files: ['philox', 'random'], entry: 'main', bindings: ['read', 'write'] },
  sampleRows: { files: ['philox', 'sampleRows'], entry: 'main', bindings: ['read', 'write'] },
  randomFormulas: { files: ['philox', 'randomFormulas'], entry: 'main', bindings: ['read', 'read', 'write'] },
  iota: { files: ['iota'], entry: 'main', bindings: ['write'] },
  gather: { files: ['gather'], entry: 'main', bindings: ['read', 'read', 'write'] },
  unfold: { files: ['unfold'], entry: 'main', bindings: ['read', 'read', 'write'] },
  unfoldDense: { files: ['unfoldDense'], entry: 'main', bindings: ['read', 'read', 'read', 'write'] },
  absentSoftmax: { files: ['absentSoftmax'], entry: 'main', bindings: ['read', 'write'] },
  decode: { files: ['decode'], entry: 'main', bindings: ['read', 'write'] },
  finite: { files: ['finite'], entry: 'main', bindings: ['read', 'readwrite'] },
  increment: { files: ['increment'], entry: 'main', bindings: ['readwrite'] },
  ema: { files: ['ema'], entry: 'main', bindings: ['readwrite', 'read'] },
  adam: { files: ['optimiser'], entry: 'adam', bindings: ['readwrite', 'read', 'read'] },
  rmsProp: { files: ['optimiser'], entry: 'rmsProp', bindings: ['readwrite', 'read', 'read'] },
  sgd: { files: ['optimiser'], entry: 'sgd', bindings: ['readwrite', 'read', 'read'] },
} as const satisfies Record<string, Kernel>;

export type KernelName = keyof typeof kernels;
