// What a file that does not parse most likely is: the usual leftovers of failed downloads.
#pragma once

#include <string>
#include <string_view>

namespace tiercel {

// A clause to append to a message (": this is a Git LFS pointer …"), or "" for no idea. Looks at
// the first bytes only.
std::string WrongFileHint(std::string_view contents);

}  // namespace tiercel
