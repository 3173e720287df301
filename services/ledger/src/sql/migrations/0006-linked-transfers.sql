-- A movement that comes with a transfer, such as a fee, is a transfer for itself with this one's id here: both are told
-- by one event, and stand or fall together.
alter table ledger.transfers add column linked_to uuid;
-- A rejected transfer moves nothing, so nothing comes with it. Not checked for the rows that are there: they have none.
alter table ledger.transfers add constraint linked_is_completed
  check (linked_to is null or (status = 'completed' and linked_to <> id)) not valid;
-- Empty but for linked ones, so that no other transfer pays for it.
create index transfers_linked on ledger.transfers (linked_to) where linked_to is not null;

create or replace view ledger_api.transfers as
  select id, type, status, user_id, from_wallet, from_sequence, to_wallet, to_sequence, amount, currency, fingerprint,
         note, metadata, requested_at, decided_at, rejection_code, rejection_detail, rejection_limit, rejection_used,
         original_id, linked_to
  from ledger.transfers;
