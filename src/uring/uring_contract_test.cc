#include "runtime/contract/clock_contract.h"
#include "runtime/contract/file_contract.h"
#include "runtime/contract/file_system_contract.h"
#include "runtime/contract/loop_contract.h"
#include "runtime/contract/network_contract.h"
#include "runtime/contract/process_contract.h"
#include "runtime/contract/random_contract.h"
#include "uring/real_world_under_test.h"

namespace hf::contract {

#define HF_REAL_WORLDS ::testing::Values(&make_real_world, &make_plain_ring_world)
INSTANTIATE_TEST_SUITE_P(Real, ClockContract, HF_REAL_WORLDS);
INSTANTIATE_TEST_SUITE_P(Real, LoopContract, HF_REAL_WORLDS);
INSTANTIATE_TEST_SUITE_P(Real, BlockingContract, HF_REAL_WORLDS);
INSTANTIATE_TEST_SUITE_P(Real, RandomContract, ::testing::Values(&make_real_world));
INSTANTIATE_TEST_SUITE_P(Real, FileContract, HF_REAL_WORLDS);
INSTANTIATE_TEST_SUITE_P(Real, FileSystemContract, HF_REAL_WORLDS);
INSTANTIATE_TEST_SUITE_P(Real, NetworkContract, HF_REAL_WORLDS);
INSTANTIATE_TEST_SUITE_P(Real, ProcessContract, HF_REAL_WORLDS);

}  // namespace hf::contract
