// Looking into a model's folder.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tiercel::checkpoint {

// Whether there is anything by this name, be it a link that leads nowhere: who opens that says so.
bool Exists(const std::string& path);

// Names of the files in `folder` that end in `suffix`, sorted; hidden files are left out.
std::vector<std::string> ListFiles(const std::string& folder, std::string_view suffix);

// "a, b, c and 7 more", for messages; "nothing" for an empty folder.
std::string DescribeFolder(const std::string& folder);

// A small text file as a whole; errors name it and say what to do.
Expected<std::string> ReadSmallFile(const std::string& path);

}  // namespace tiercel::checkpoint
