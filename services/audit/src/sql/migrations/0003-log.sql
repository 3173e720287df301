-- The index of the trail: what each record states of itself, by which it is found. Made from audit.records alone, by a
-- worker of the service behind the recording, so that a registry that is away delays the search and never the record. What
-- is shown to a person is read from audit.records: a false row here can hide a record from a search, and cannot change what
-- one says.
create table audit.log (
  id            bigint generated always as identity primary key,
  topic         text not null,
  epoch         int not null,
  partition     int not null,
  record_offset bigint not null,
  -- That of the record.
  time_ms       bigint not null,
  action        text not null,
  actor_id      uuid,
  actor_role    text,
  request_id    text,
  -- 32 hexadecimal digits are a uuid's 16 bytes.
  trace_id      uuid,
  address_hash  text,
  refusal       text,
  -- Every record has one row, in order: the last one of a chain is the position.
  unique (topic, epoch, partition, record_offset)
);
-- Each reads newest first, from a place on. Roles of users, who are nearly all, have no entry of the index.
create index log_by_time on audit.log (time_ms, id);
create index log_by_topic on audit.log (topic, time_ms, id);
create index log_by_action on audit.log (action, time_ms, id);
create index log_by_actor on audit.log (actor_id, time_ms, id) where actor_id is not null;
create index log_by_role on audit.log (actor_role, time_ms, id) where actor_role <> 'user';
create index log_by_request on audit.log (request_id, time_ms, id) where request_id is not null;
create index log_by_trace on audit.log (trace_id, time_ms, id) where trace_id is not null;
create index log_by_address on audit.log (address_hash, time_ms, id) where address_hash is not null;
create index log_of_refusals on audit.log (time_ms, id) where refusal is not null;
create index log_by_refusal on audit.log (refusal, time_ms, id) where refusal is not null;

-- Everything that a record names: users, wallets, transfers and others, a row each.
create table audit.log_subjects (
  kind       text not null,
  subject_id uuid not null,
  time_ms    bigint not null,
  -- A row of audit.log, written by the same statement; no foreign key, whose check would cost as much as the row.
  log_id     bigint not null,
  primary key (kind, subject_id, time_ms, log_id)
);

grant select, insert on audit.log, audit.log_subjects to audit;

-- What others may read. Columns may be added, none renamed.
create schema audit_api;
create view audit_api.log as
  select id, topic, epoch, partition, record_offset, time_ms, action, actor_id, actor_role, request_id, trace_id,
    address_hash, refusal
  from audit.log;
create view audit_api.log_subjects as select kind, subject_id, time_ms, log_id from audit.log_subjects;
-- audit:rebuild -- --swap makes it anew, because a view stays with its table when that gets another name.
create view audit_api.records as
  select topic, epoch, partition, record_offset, record_time_ms, key, headers, value, hash, recorded_at
  from audit.records;
grant usage on schema audit_api to audit_reader;
grant select on audit_api.log, audit_api.log_subjects, audit_api.records to audit_reader;
