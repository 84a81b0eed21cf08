#include "sim/disk_image.h"

#include <algorithm>

namespace hf::sim {

DiskImage DiskImage::of(const SimDisk& disk) {
  DiskImage image;
  const SimNames& names = disk.names();
  HF_ASSERT(names.pending_changes() == 0, "names of {} are not synced", disk.name());
  for (const auto& [number, inode] : names.inodes()) {
    Entry entry;
    entry.path = names.path_of(*inode);
    if (entry.path == "/") continue;
    if (entry.path.empty()) continue;  // nothing leads to it any more
    HF_ASSERT(!inode->content.has_dirty(), "{} of {} is not synced", entry.path, disk.name());
    entry.type = inode->type;
    entry.mode = inode->mode;
    entry.size = inode->content.size();
    for (uint64_t at = 0; at < entry.size; at += kPageSize) {
      const Page* page = inode->content.medium_page(at);
      if (page == nullptr) continue;
      const ByteSpan bytes(page->bytes, kPageSize);
      const bool zero = all_zero(bytes);
      Piece* last = entry.pieces.empty() ? nullptr : &entry.pieces.back();
      if (last == nullptr || last->offset + last->length != at || last->bytes.empty() != zero) {
        last = &entry.pieces.emplace_back();
        last->offset = at;
      }
      last->length += kPageSize;
      if (!zero) last->bytes.insert(last->bytes.end(), bytes.begin(), bytes.end());
    }
    image.entries_.push_back(std::move(entry));
  }
  std::sort(image.entries_.begin(), image.entries_.end(),
            [](const Entry& a, const Entry& b) { return a.path < b.path; });
  return image;
}

void DiskImage::lay_onto(SimDisk& disk) const {
  for (const Entry& entry : entries_) {
    InodeRef inode;
    const int error = disk.names().create(entry.path, entry.type, entry.mode, &inode);
    HF_ASSERT(error == 0, "{}: {}: errno {}", disk.name(), entry.path, error);
    for (const Piece& piece : entry.pieces) {
      const bool room = piece.bytes.empty() ? inode->content.allocate(piece.offset, piece.length)
                                            : inode->content.write(piece.offset, piece.bytes,
                                                                   SimContent::Landing::kDurable);
      HF_ASSERT(room, "{} is too small for the image", disk.name());
    }
    inode->content.set_size(entry.size, true);
  }
  HF_ASSERT(disk.names().sync_dir("/") == 0);
  for (const Entry& entry : entries_) {
    if (entry.type != FileType::kDirectory) continue;
    HF_ASSERT(disk.names().sync_dir(entry.path) == 0);
  }
  HF_ASSERT(disk.names().pending_changes() == 0);
}

}  // namespace hf::sim
