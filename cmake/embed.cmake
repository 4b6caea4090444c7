# cmake -DINPUT=… -DOUTPUT=… -DNAME=… -P embed.cmake: writes a C++ source that defines
# tiercel::server::NAME, a std::string_view of the file's bytes.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)"
       "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT} "#include <string_view>
namespace tiercel::server {
namespace {
constexpr unsigned char ${NAME}Bytes[] = {
${bytes}};
}  // namespace
extern const std::string_view ${NAME}{reinterpret_cast<const char*>(${NAME}Bytes), sizeof(${NAME}Bytes)};
}  // namespace tiercel::server
")
