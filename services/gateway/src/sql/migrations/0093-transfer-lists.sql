-- A user's list of transfers contains what is not decided yet and what the payment provider refused. A request keeps
-- its place in the list, (requested_at, id), no matter what becomes of it.
create index pending_requests_of_user on gateway.pending_requests (user_id, requested_at, transfer_id)
  where type = 'transfer';
create index payments_of_user on gateway.payments (user_id, requested_at, id);
