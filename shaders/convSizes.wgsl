// Sizes of a convolution, image x to output y, fixed when the pipeline is compiled: index arithmetic becomes shifts and products.
override BATCH: u32;
override HEIGHT: u32;
override WIDTH: u32;
override CHANNELS: u32;
override OUT_HEIGHT: u32;
override OUT_WIDTH: u32;
override OUT_CHANNELS: u32;
override KERNEL_HEIGHT: u32;
override KERNEL_WIDTH: u32;
override STRIDE_H: u32;
override STRIDE_W: u32;
override TOP: u32;
override LEFT: u32;
