# A source with dot or matrix products has a newer ISA for them; it defines nothing that others could be linked with.
# No scheduling before registers are given: the sources count them, GCC would move loads up until they do not suffice.
set(ARM_FLAGS "$<$<CXX_COMPILER_ID:GNU>:-fno-schedule-insns>")
set(NEON_SOURCES
  arm/neon/add_parts.cc arm/neon/attention.cc arm/neon/block_matmul.cc arm/neon/fp8_matmul.cc arm/neon/matmul.cc arm/neon/peak.cc
  arm/neon/qk_norm_rope.cc arm/neon/quant_matmul.cc arm/neon/quantize.cc arm/neon/rms_norm.cc arm/neon/row_ops.cc)
set(NEON_DOT_SOURCES arm/neon/block_matmul_dot.cc arm/neon/quant_matmul_dot.cc)
set(NEON_BF16_SOURCES arm/neon/attention_bf16dot.cc arm/neon/fp8_matmul_bf16dot.cc arm/neon/matmul_bf16dot.cc
  arm/neon/matmul_mmla.cc)
set(NEON_I8MM_SOURCES arm/neon/block_matmul_mmla.cc arm/neon/quant_matmul_mmla.cc)
set(ARCHITECTURE_SOURCES
  arm/architecture.cc arm/neon/table.cc ${NEON_SOURCES} ${NEON_DOT_SOURCES} ${NEON_BF16_SOURCES}
  ${NEON_I8MM_SOURCES})
set(ARCHITECTURE_TESTS arm/registry_test.cc)
tiercel_isa_sources("-march=armv8-a;${ARM_FLAGS}" ${NEON_SOURCES})
tiercel_isa_sources("-march=armv8.2-a+dotprod;${ARM_FLAGS}" ${NEON_DOT_SOURCES})
tiercel_isa_sources("-march=armv8.2-a+bf16;${ARM_FLAGS}" ${NEON_BF16_SOURCES})
tiercel_isa_sources("-march=armv8.2-a+i8mm;${ARM_FLAGS}" ${NEON_I8MM_SOURCES})
