// CpuCausalLm in a job of several processes: the first one tells the others what to do, and takes the last stage's logits.
#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/round_up.h"
#include "model/cpu_causal_lm.h"
#include "model/logit_transfers.h"
#include "model/order.h"

namespace tiercel::model {

Status CpuCausalLm::Check() {
  if (transport_ == nullptr) return OkStatus();
  const Status status = transport_->Check();
  is_lost_ |= !status.ok();
  return status;
}

double CpuCausalLm::SecondsBetweenChecks() const {
  return transport_ == nullptr ? std::numeric_limits<double>::infinity() : 1;
}

// The same to each of the others.
Status CpuCausalLm::Tell(const Order& order) {
  std::vector<comm::Transfer> sends;
  for (int peer = 1; peer < transport_->process().count; ++peer) sends.push_back(comm::TransferOf(peer, &order, 1));
  return transport_->Exchange(sends, {});
}

Status CpuCausalLm::TellInputs(const StepBatch& part) {
  const int64_t block_size = inputs().layout.block_size;
  const int64_t longest = *std::max_element(part.context_len.begin(), part.context_len.end());
  Order order{.kind = Order::Kind::kStep};
  order.rows = std::ssize(part.token_ids);
  order.seqs = std::ssize(part.context_len);
  order.logit_rows = std::ssize(part.logit_rows);
  order.blocks = CeilDiv(longest, block_size);
  std::vector<comm::Transfer> sends;
  for (int peer = 1; peer < transport_->process().count; ++peer) {
    sends.push_back(comm::TransferOf(peer, &order, 1));
    AddInputs(peer, order, &sends);
  }
  return transport_->Exchange(sends, {});
}

void CpuCausalLm::AddInputs(int peer, const Order& order, std::vector<comm::Transfer>* transfers) const {
  const Activations& a = inputs();
  constexpr auto kEntry = static_cast<int64_t>(sizeof(*a.block_table));
  for (const comm::Transfer& one :
       {comm::TransferOf(peer, a.token_ids, order.rows), comm::TransferOf(peer, a.positions, order.rows),
        comm::TransferOf(peer, a.kv_slot, order.rows), comm::TransferOf(peer, a.query_start, order.seqs + 1),
        comm::TransferOf(peer, a.context_len, order.seqs), comm::TransferOf(peer, a.logit_rows, order.logit_rows)}) {
    transfers->push_back(one);
  }
  transfers->push_back({peer, reinterpret_cast<std::byte*>(a.block_table), order.seqs, a.block_table_stride * kEntry,
                        order.blocks * kEntry});
}

Status CpuCausalLm::Follow() {
  CHECK(transport_ != nullptr && !transport_->process().is_first());
  BindThread();
  while (true) {
    Order order;
    const comm::Transfer receive = comm::TransferOf(0, &order, 1);
    RETURN_IF_ERROR(transport_->Exchange({}, {&receive, 1}, comm::Transport::Patience::kForever));
    switch (order.kind) {
      case Order::Kind::kPrepare: RETURN_IF_ERROR(Prepare(order.kv, order.limits)); break;
      case Order::Kind::kStep: RETURN_IF_ERROR(FollowStep(order)); break;
      case Order::Kind::kEmptyCache: EmptyCache(); break;
      case Order::Kind::kEnd: return OkStatus();
    }
  }
}

Status CpuCausalLm::FollowStep(const Order& order) {
  std::vector<comm::Transfer> receives;
  AddInputs(0, order, &receives);
  RETURN_IF_ERROR(transport_->Exchange({}, receives));
  ChooseProgram(order.rows, order.seqs, order.logit_rows);
  return Dispatch(0, order.logit_rows, [](const LogitGroup&, int) {});
}

Status CpuCausalLm::Finish() {
  if (steps_.empty()) return OkStatus();
  CHECK_LT(num_finished_, num_started_);
  return UseLogitsOf(&steps_[num_finished_++ % steps_.size()]);
}

Status CpuCausalLm::DispatchInStages(int64_t first, int64_t logit_rows, UnderWay* step) {
  step->group.first = first;
  step->group.count = program_logit_rows_;
  RETURN_IF_ERROR(PostLogits(step));  // before the stages behind can wait to be received from
  step->group.count = std::min(limits_.logit_group_rows, logit_rows);
  RETURN_IF_ERROR(Dispatch(first, 0, *step->after));
  const int64_t end = first + logit_rows;
  while (step->group.first + step->group.count < end) {
    RETURN_IF_ERROR(UseLogitsOf(step));
    step->group.first += limits_.logit_group_rows;
    step->group.count = std::min(limits_.logit_group_rows, end - step->group.first);
    RETURN_IF_ERROR(PostLogits(step));
  }
  return OkStatus();
}

Status CpuCausalLm::PostLogits(UnderWay* step) {
  if (step->group.count == 0) return OkStatus();
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  const LogitGroup& group = step->group;
  const bool columns = head() == checkpoint::Head::kLogits;
  transfers_.clear();
  LogitsFromOthers(buffers_, {reinterpret_cast<std::byte*>(group.logits), group.count, group.stride * kFloat,
                              (columns ? group.stride : config_.hidden_size) * kFloat, columns}, &transfers_);
  RETURN_IF_ERROR(transport_->Post(transfers_));
  step->is_here = false;
  awaited_.push_back(step);
  return OkStatus();
}

Status CpuCausalLm::UseLogitsOf(UnderWay* step) {
  while (!step->is_here) {  // those of older steps come before
    RETURN_IF_ERROR(transport_->Await());
    awaited_.front()->is_here = true;
    awaited_.erase(awaited_.begin());
  }
  if (step->group.count == 0) return OkStatus();
  environment_->team->Run([step](int worker) { (*step->after)(step->group, worker); });
  step->group.count = 0;
  return OkStatus();
}

}  // namespace tiercel::model
