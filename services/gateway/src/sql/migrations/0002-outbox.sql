-- Records that belong to a change of state, written in its transaction and deleted once Kafka has them.

create table gateway.outbox (
  id      bigint generated always as identity primary key,
  topic   text not null,
  key     text not null,
  headers text not null,
  bytes   bytea not null
);

-- Whoever holds the lock on this row is the relay; the lock goes with its connection.
create table gateway.outbox_lease (only_row boolean primary key default true check (only_row));
insert into gateway.outbox_lease default values;

grant select, insert, delete on gateway.outbox to gateway;
grant select, update on gateway.outbox_lease to gateway;
