-- Every record of every topic, as it was received. The service's role may add and read, nothing else: what was
-- recorded cannot be changed by whoever takes over the service, and a change by the owner breaks the hash chain.
create table audit.records (
  topic text not null,
  epoch int not null default 0,
  partition int not null,
  record_offset bigint not null,
  -- Milliseconds since 1970 as a producer set them; any number may stand there, so it is no timestamptz.
  record_time_ms bigint not null,
  key bytea,
  -- The headers in order: for each its name and value, each after its length (4 bytes, big endian).
  headers bytea not null,
  value bytea,
  hash bytea not null check (octet_length(hash) = 32),
  recorded_at timestamptz not null default now(),
  primary key (topic, epoch, partition, record_offset)
);

-- A topic that was made anew (Kafka's data lost, moved to another cluster) begins an epoch: an operator decides it,
-- as the owner. A topic without a row is in epoch 0.
create table audit.epochs (
  topic text not null,
  epoch int not null check (epoch > 0),
  reason text not null,
  begun_at timestamptz not null default now(),
  primary key (topic, epoch)
);

grant usage on schema audit to audit;
grant select, insert on audit.records to audit;
grant select on audit.epochs to audit;
