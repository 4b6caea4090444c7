// What a file that does not parse most likely is: the usual leftovers of failed downloads.
#pragma once

#include <string>
#include <string_view>

namespace tiercel {

// A clause to append to a message (": this is a Git LFS pointer …"), or "" for no idea. Looks at
// the first bytes only.
std::string WrongFileHint(std::string_view contents);

// ": it is a link to TARGET", if there is none such or the link leads back to itself; else empty. Who asks only whether the
// file exists takes such a link for no file.
std::string BrokenLinkHint(const std::string& path);

}  // namespace tiercel
