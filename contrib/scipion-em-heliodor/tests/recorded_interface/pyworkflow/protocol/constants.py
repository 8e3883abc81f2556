"""Names and levels."""

STEPS_SERIAL, STEPS_PARALLEL = 0, 1
LEVEL_NORMAL, LEVEL_ADVANCED = 0, 1
USE_GPU, GPU_LIST = "useGpu", "gpuList"
