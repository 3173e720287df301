-- A request whose client was told "pending" has its command beside it, as it was sent: one that the ledger has not
-- decided long after its expiry is sent again, so that each ends by the ledger's word, although the topic lost it.
-- The version before writes none of these columns, and its rows are never sent again.
alter table gateway.pending_requests
  add column command_key  text,
  add column command_type text,
  add column command      bytea,
  -- When a gateway looks at the request next, and how often it has sent the command again.
  add column look_at      timestamptz,
  add column sent_again   integer not null default 0,
  -- When a gateway found it decided; a day later the row is deleted.
  add column decided_at   timestamptz;
create index pending_requests_undecided on gateway.pending_requests (look_at)
  where decided_at is null and acknowledged and command is not null;
