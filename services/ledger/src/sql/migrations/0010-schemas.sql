-- Which schema each id in the journal's bytes means. The registry may lose it together with Kafka; without it the events
-- cannot be read by anybody.
create table ledger.schemas (
  id int primary key,
  subject text not null,
  schema text not null,
  seen_at timestamptz not null default now()
);
grant select, insert on ledger.schemas to ledger;
