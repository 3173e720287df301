// Invariants of the whole system, checked once a fault is over.
import { payoutReturnIdOf } from '@pennywire/contracts/ids.ts'
import { RECORDED_TOPICS } from '@pennywire/contracts/topics.ts'
import { UUID } from '@pennywire/runtime/database.ts'
import { idOf } from './judge-answers.ts'
import type { Request } from './load.ts'
import type { Person } from './people.ts'
import { runScript, topicEnds, until, type World } from './world.ts'

const CAUGHT_UP_WITHIN_SECONDS = 90

/** Waits until every decided event is recorded as published. */
const untilPublished = (world: World) =>
  until('every event is published', CAUGHT_UP_WITHIN_SECONDS, async () => {
    const [row] = await world.sql<[{ left: number }]>`
      select coalesce(sum(next_seq - 1 - published_through), 0)::int as left
      from ledger.partitions join ledger.published using (partition)`
    return row.left === 0
  })

const untilAudited = (world: World) =>
  until('the audit trail has everything', CAUGHT_UP_WITHIN_SECONDS, async () => {
    const rows = await world.sql<{ id: string; last: bigint }[]>`
      select r.topic || '/' || r.partition as id, max(r.record_offset) as last from audit.records r
      where r.epoch = coalesce((select max(e.epoch) from audit.epochs e where e.topic = r.topic), 0)
      group by r.topic, r.partition`
    const last = new Map(rows.map(row => [row.id, row.last]))
    for (const topic of RECORDED_TOPICS)
      for (const [partition, end] of await topicEnds(world, topic))
        if ((last.get(`${topic}/${partition}`) ?? -1n) < end - 1n) return false
    return true
  })

/** M1-M3, O1, O2: by the ledger's own command. */
const verifyBooks = async (world: World): Promise<string[]> => {
  await untilPublished(world)
  const { code, output } = await runScript('services/ledger/src/verify-books.ts', world.system.env.ledger)
  if (code === 0 && output.includes('The books are right.')) return []
  const broken = output.split('\n').filter(line => line.includes('BROKEN'))
  return [`verify-books: ${broken.length > 0 ? broken.join('\n      ') : output}`]
}

/** A1: by the audit service's own command, once it has recorded everything. */
const verifyAudit = async (world: World): Promise<string[]> => {
  await untilAudited(world)
  const { code, output } = await runScript('services/audit/src/verify.ts', {
    AUDIT_DATABASE_URL: world.system.databaseUrls.audit,
    ...world.stack.kafkaEnv.audit,
  })
  return code === 0 ? [] : [`audit verify: ${output.split('\n').slice(-4).join(' ')}`]
}

/**
 * Each person concerned is notified of each outcome, once: both parties of a hold, when it is placed and when it ends;
 * the requester of a refusal; each user whose wallet paid or received.
 */
const checkNotifications = async (world: World, people: Person[], requests: Request[]): Promise<string[]> => {
  const ids = requests.flatMap(request => {
    const id = idOf(people, request)
    return request.kind === 'withdrawal' ? [id, payoutReturnIdOf(id)] : [id]
  })
  const uuids = world.sql.array(ids, UUID)
  const wrong = () => world.sql<{ id: string; told: number; should: number }[]>`
    select q.id::text, coalesce(n.told, 0) as told, q.should from (
      select coalesce(h.id, t.id) as id,
        case
          when h.id is not null then
            (case h.type when 'hold' then 2 else 1 end) * (case h.status when 'active' then 1 else 2 end)
          when t.status = 'rejected' then 1
          else (select count(*) from ledger.wallets w
            where w.id in (t.from_wallet, t.to_wallet) and w.user_id is not null)
        end::int as should
      from unnest(${uuids}) as asked (id)
      left join ledger.holds h on h.id = asked.id left join ledger.transfers t on t.id = asked.id
      where h.id is not null or t.id is not null
    ) q left join (
      select transfer_id, count(*)::int as told from notifier.notices
      where transfer_id = any(${uuids}) group by transfer_id) n on n.transfer_id = q.id
    where coalesce(n.told, 0) <> q.should
    order by q.id limit 1`
  await until('everybody is told', CAUGHT_UP_WITHIN_SECONDS, async () => (await wrong()).length === 0).catch(
    () => {},
  )
  return (await wrong()).map(({ id, told, should }) => `${told} notifications of ${id}, not ${should}`)
}

export const checkSystem = async (world: World, people: Person[], requests: Request[]): Promise<string[]> => {
  const check = (checking: Promise<string[]>) => checking.catch((error: Error) => [error.message])
  const found = await Promise.all([
    check(verifyBooks(world)),
    check(verifyAudit(world)),
    check(checkNotifications(world, people, requests)),
  ])
  return found.flat()
}
