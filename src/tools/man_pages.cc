#include "tools/man_pages.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/ascii_case.h"
#include "base/split.h"

namespace tiercel::tools {
namespace {

// Text as roff shows it: no escapes, hyphens that can be copied, and no line that is a request.
std::string Roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if ((out.empty() || out.back() == '\n') && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

// "Serve a model." → "serve a model", as the line of whatis has it.
std::string WhatIs(std::string_view summary) {
  std::string text(summary.substr(0, summary.find_last_not_of('.') + 1));
  text[0] = LowerCase(text[0]);
  return text;
}

class Page {
 public:
  // `name` is "tiercel serve".
  Page(std::string name, std::string_view summary, const Release& release)
      : name_(std::move(name)) {
    std::string title = file_name();
    title.resize(title.size() - 2);
    std::string upper = title;
    for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    text_ = fmt::format(".TH {} 1 {} \"Tiercel {}\" \"User commands\"\n", Roff(upper), release.date,
                        release.version);
    Section("NAME");
    text_ += fmt::format("{} \\- {}\n", Roff(title), Roff(WhatIs(summary)));
  }

  std::string file_name() const {
    std::string name = name_;
    std::replace(name.begin(), name.end(), ' ', '-');
    return name + ".1";
  }
  const std::string& text() const { return text_; }

  void Section(std::string_view title) { text_ += fmt::format(".SH {}\n", title); }

  // `usage` begins with the command's name.
  void Synopsis(std::string_view usage) {
    Section("SYNOPSIS");
    const size_t end = usage.starts_with(name_) ? name_.size() : 0;
    text_ += fmt::format("\\fB{}\\fR{}\n", Roff(usage.substr(0, end)), Roff(usage.substr(end)));
  }

  void Paragraph(std::string_view text) {
    if (!text.empty()) text_ += Roff(text) + "\n";
  }

  void Item(std::string_view term, std::string_view text) {
    text_ += fmt::format(".TP\n\\fB{}\\fR\n{}\n", Roff(term), Roff(text));
  }

  // Lines "  NAME   what it is" below a title, which are how a command's help has them.
  void Positional(std::string_view lines) {
    for (const std::string_view line : Split(lines, '\n')) {
      if (!line.starts_with(' ')) continue;
      const std::string_view item = Trimmed(line, " ");
      const size_t end = std::min(item.find("  "), item.size());
      Item(item.substr(0, end), Trimmed(item.substr(end), " "));
    }
  }

  void Options(const OptionTable& table) {
    Section("OPTIONS");
    Item("-h, --help[=TOPIC]",
         "Help, and the end. TOPIC: listgroup, all, a group's name, or a flag.");
    for (const OptionGroup& group : table.groups()) {
      if (group.options.empty()) continue;
      text_ += fmt::format(".SS {}\n", Roff(group.name));
      Paragraph(group.description);
      for (const OptionSpec& spec : group.options) Item(OptionNames(spec), OptionText(spec));
    }
  }

  void Parts(std::span<const Subcommand> parts) {
    Section("COMMANDS");
    for (const Subcommand& part : parts) {
      Item(fmt::format("{} {}", name_, part.name), part.summary);
    }
  }

  void ExitStatus() {
    Section("EXIT STATUS");
    Item("0", "All went well.");
    Item("1", "The environment's fault, the model's or the server's; one line says what it was.");
    Item("2", "The command line's fault; one line names the flag, what was found and what was expected.");
  }

  void SeeAlso(const std::string& pages) {
    Section("SEE ALSO");
    text_ += pages;
  }

 private:
  const std::string name_;
  std::string text_;
};

std::string SeeAlso(std::string_view name) {
  std::string page(name);
  std::replace(page.begin(), page.end(), ' ', '-');
  return fmt::format(".BR {} (1)\n", Roff(page));
}

void AddPages(const std::string& name, std::string_view summary, std::string_view description,
              std::span<const Subcommand> commands, const Release& release,
              std::map<std::string, std::string>* pages) {
  Page page(name, summary, release);
  page.Synopsis(fmt::format("{} {{{}}} ...", name, PlainNames(commands)));
  page.Section("DESCRIPTION");
  page.Paragraph(description);
  page.Parts(commands);
  page.ExitStatus();
  std::string links;
  for (const Subcommand& command : commands) {
    links += SeeAlso(fmt::format("{} {}", name, command.name));
  }
  page.SeeAlso(links);
  pages->emplace(page.file_name(), page.text());

  for (const Subcommand& command : commands) {
    const std::string full = fmt::format("{} {}", name, command.name);
    if (command.describe == nullptr) {
      AddPages(full, command.summary, command.summary, command.parts(), release, pages);
      continue;
    }
    const CommandText text = command.describe();
    Page own(full, command.summary, release);
    own.Synopsis(text.help.usage);
    own.Section("DESCRIPTION");
    own.Paragraph(text.help.description);
    own.Positional(text.help.positional);
    own.Options(text.table);
    own.ExitStatus();
    own.SeeAlso(SeeAlso(name));
    pages->emplace(own.file_name(), own.text());
  }
}

}  // namespace

std::map<std::string, std::string> ManPages(std::span<const Subcommand> commands,
                                            const Release& release) {
  std::map<std::string, std::string> pages;
  AddPages("tiercel", "Serve language models on the CPU.",
           "Serves Qwen3, Qwen2 and Llama models on the CPU over OpenAI's HTTP API, with the command "
           "line of `vllm serve`. Each command has a page of its own.",
           commands, release, &pages);
  return pages;
}

}  // namespace tiercel::tools
