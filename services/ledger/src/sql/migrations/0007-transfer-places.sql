-- Lists show a rejected request at the place that it had while it was pending, so that a page neither repeats nor misses
-- it. Only rejected ones pay for it. transfers_rejected_of_user stays: the version before reads by decided_at.
create index transfers_rejected_by_request on ledger.transfers (user_id, requested_at, id) where status = 'rejected';
