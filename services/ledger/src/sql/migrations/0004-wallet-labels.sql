-- What its owner calls a wallet, only as ciphertext. The ledger's role may update all of ledger.wallets already.
alter table ledger.wallets add column label bytea;

create or replace view ledger_api.wallets as
  select id, user_id, system, code, currency, status, freeze_source, balance, balance - held as available, sequence,
         opened_at, closed_at, held, tier, usage, freeze_reason, label
  from ledger.wallets;
