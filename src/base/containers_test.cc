#include <gtest/gtest.h>

#include "base/intrusive_list.h"
#include "base/ring_queue.h"

namespace hf {
namespace {

struct Item : ListHook {
  explicit Item(int v) : value(v) {}
  int value;
};

TEST(IntrusiveList, KeepsOrderAndUnlinksOnDestruction) {
  IntrusiveList<Item> list;
  Item a(1), c(3);
  {
    Item b(2);
    list.push_back(a);
    list.push_back(b);
    list.push_back(c);
  }
  std::vector<int> seen;
  list.for_each([&](Item& item) { seen.push_back(item.value); });
  EXPECT_EQ(seen, (std::vector<int>{1, 3}));
  EXPECT_EQ(list.pop_front().value, 1);
  EXPECT_EQ(list.pop_front().value, 3);
  EXPECT_TRUE(list.empty());
}

TEST(RingQueue, IsBoundedAndFirstInFirstOut) {
  RingQueue<int> queue(2);
  EXPECT_TRUE(queue.try_push(1));
  EXPECT_TRUE(queue.try_push(2));
  EXPECT_FALSE(queue.try_push(3));
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_TRUE(queue.try_push(3));
  EXPECT_EQ(queue.pop(), 2);
  EXPECT_EQ(queue.pop(), 3);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace hf
