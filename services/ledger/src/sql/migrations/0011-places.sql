-- Where a transfer's event stands in the journal, and through which event each partition is known to be in Kafka: for the
-- timeline of a transfer and the proof of a balance.
create or replace view ledger_api.transfers as
  select id, type, status, user_id, from_wallet, from_sequence, to_wallet, to_sequence, amount, currency, fingerprint,
         note, metadata, requested_at, decided_at, rejection_code, rejection_detail, rejection_limit, rejection_used,
         original_id, linked_to, partition, seq
  from ledger.transfers;
create view ledger_api.published as select partition, published_through from ledger.published;
grant select on ledger_api.published to ledger_reader;
