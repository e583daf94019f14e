/** Gradient-boosted trees: docs/trees.md. */
export { binTable, type Table } from './bins.ts';
export { checkTreesConfig, loadTreesConfig, type TreesConfig, treesPresetNames } from './config.ts';
export { checkInputs, type Inputs, readTrees, type TreesModel, writeTrees } from './files.ts';
export {
  type ErrorForest,
  type Forest,
  importances,
  permutationImportances,
  predict,
  uncertaintiesOf,
} from './forest.ts';
export { onnxOf, writeOnnx } from './onnx.ts';
export {
  errorsOf,
  setAside,
  type Trained,
  type TreeLog,
  type TreesOptions,
  trainMeasured,
  trainTrees,
  type Unseen,
} from './train.ts';
