set(AVX2_FLAGS -mavx2 -mfma -mf16c -mbmi2)
set(AVX2_SOURCES
  x86/avx2/add_parts.cc x86/avx2/attention.cc x86/avx2/block_matmul.cc x86/avx2/qk_norm_rope.cc x86/avx2/rms_norm.cc x86/avx2/row_ops.cc
  x86/avx2/fp8_matmul.cc x86/avx2/matmul.cc x86/avx2/peak.cc x86/avx2/quant_matmul.cc x86/avx2/quantize.cc)
set(AVX512_FLAGS ${AVX2_FLAGS} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd)
# GCC 12 warns about the deliberately undefined operands inside its own avx512fintrin.h.
list(APPEND AVX512_FLAGS
     "$<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized>")
set(AVX512_SOURCES
  x86/avx512/add_parts.cc x86/avx512/attention.cc x86/avx512/qk_norm_rope.cc x86/avx512/rms_norm.cc x86/avx512/row_ops.cc
  x86/avx512/fp8_matmul.cc x86/avx512/matmul.cc x86/avx512/peak.cc x86/avx512/quantize.cc)
set(AVX2_VNNI_SOURCES x86/avx2/block_matmul_vnni.cc x86/avx2/quant_matmul_vnni.cc)
set(AVX512_VNNI_SOURCES x86/avx512/block_matmul.cc x86/avx512/peak_vnni.cc x86/avx512/quant_matmul.cc)
set(AVX512_BF16_SOURCES x86/avx512/attention_bf16dot.cc x86/avx512/matmul_bf16dot.cc
  x86/avx512/peak_bf16.cc)
set(AVX512_VBMI_SOURCES x86/avx512/attention_vbmi.cc x86/avx512/fp8_matmul_vbmi.cc)
set(AMX_FLAGS ${AVX512_FLAGS} -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8 -mprfchw
    -Wno-array-bounds)  # LoadTile names all memory behind its rows as read
set(AMX_SOURCES
  x86/amx/attention.cc x86/amx/attention_int8.cc x86/amx/matmul.cc x86/amx/peak.cc x86/amx/quant_matmul.cc
  x86/amx/tile_config.cc)
set(AMX_VBMI_SOURCES x86/amx/fp8_matmul.cc)

set(ARCHITECTURE_SOURCES
  x86/architecture.cc x86/avx2/table.cc x86/avx512/table.cc x86/amx/table.cc
  ${AVX2_SOURCES} ${AVX2_VNNI_SOURCES} ${AVX512_SOURCES} ${AVX512_VNNI_SOURCES} ${AVX512_BF16_SOURCES}
  ${AVX512_VBMI_SOURCES} ${AMX_SOURCES} ${AMX_VBMI_SOURCES})
set(ARCHITECTURE_TESTS x86/registry_test.cc)
tiercel_isa_sources("${AVX2_FLAGS}" ${AVX2_SOURCES})
tiercel_isa_sources("${AVX2_FLAGS};-mavxvnni" ${AVX2_VNNI_SOURCES})
tiercel_isa_sources("${AVX512_FLAGS};-mavx512vnni" ${AVX512_VNNI_SOURCES})
tiercel_isa_sources("${AVX512_FLAGS}" ${AVX512_SOURCES})
tiercel_isa_sources("${AVX512_FLAGS};-mavx512bf16" ${AVX512_BF16_SOURCES})
tiercel_isa_sources("${AVX512_FLAGS};-mavx512bf16;-mavx512vbmi" ${AVX512_VBMI_SOURCES})
tiercel_isa_sources("${AMX_FLAGS}" ${AMX_SOURCES})
tiercel_isa_sources("${AMX_FLAGS};-mavx512vbmi" ${AMX_VBMI_SOURCES})
