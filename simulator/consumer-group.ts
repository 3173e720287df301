import type { Consumer, ConsumerOptions, TopicPartition } from '@pennywire/kafka/consumer.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { Log, Reader } from './log.ts'
import type { Process, World } from './world.ts'

const TOPIC = 'ledger.commands'
/** As packages/kafka/src/consumer.ts sets it. */
const SESSION_TIMEOUT_MS = 10_000
const FIRST_RETRY_MS = 100
const LAST_RETRY_MS = 5_000
const HOLD_MS = 1_000

export type Member = { stop: () => Promise<void>; halted: () => Map<number, string> }

export type Group = {
  join: (
    process: Process,
    options: Pick<ConsumerOptions, 'positions' | 'onAssigned' | 'handle'> & { maxBatch: number },
  ) => Member
  /** A member stops answering, dead or paused: the group removes it after the session time-out. */
  silence: (process: Process) => void
  /** The member answers again. If the group removed it meanwhile, it rejoins a little later. */
  awake: (process: Process) => void
}

type Joined = {
  process: Process
  assign: (partitions: number[], generation: number) => void
  silentSince: number | null
}

/**
 * The ledger's consumer group. A member's loop is the one of packages/kafka/src/consumer.ts without kafkajs: records go
 * into a queue per partition, one batch is handled at a time, and a failed batch is retried. Partitions are reassigned
 * without waiting for any member, so a former owner still works on the records that it has.
 */
export const createGroup = (world: World, log: Log): Group => {
  const { random } = world
  /** All members with a process, removed from the group or not. */
  const joined = new Map<Process, Joined>()
  let members: Joined[] = []
  let generation = 0
  let due = false

  const rebalance = () => {
    if (due) return
    due = true
    world.after(10 + random.float() * 500, null, 'group rebalances', () => {
      due = false
      generation++
      const count = log.partitionsOf(TOPIC)
      const shift = random.int(Math.max(members.length, 1))
      for (const [index, member] of members.entries()) {
        const mine: number[] = []
        for (let partition = 0; partition < count; partition++) {
          if ((partition + shift) % members.length === index) mine.push(partition)
        }
        const told = generation
        world.after(random.float() * 300, member.process, `is assigned ${mine.join(' ') || 'nothing'}`, () =>
          member.assign(mine, told),
        )
      }
    })
  }

  const expire = (member: Joined) => {
    const since = world.now()
    member.silentSince = since
    world.after(SESSION_TIMEOUT_MS, null, `session of ${member.process.name} times out`, () => {
      if (member.silentSince !== since || !members.includes(member)) return
      members = members.filter(other => other !== member)
      rebalance()
    })
  }

  return {
    silence: process => {
      for (const member of members) if (member.process === process) expire(member)
    },
    awake: process => {
      const member = joined.get(process)
      if (!member) return
      member.silentSince = null
      if (members.includes(member)) return
      world.after(random.float() * 1_500, process, 'finds itself thrown out and joins again', () => {
        if (members.includes(member) || joined.get(process) !== member) return
        members.push(member)
        rebalance()
      })
    },
    join: (process, options) => startMember(process, options),
  }

  function startMember(
    process: Process,
    options: Pick<ConsumerOptions, 'positions' | 'onAssigned' | 'handle'> & { maxBatch: number },
  ): Member {
    const queues = new Map<number, { records: IncomingRecord[]; reader: Reader | null }>()
    const halted = new Map<number, string>()
    let mine = 0
    let positioned = false
    let stopped = false
    let working: Promise<void> = Promise.resolve()
    let positioning: Promise<void> = Promise.resolve()
    let idle = true

    const drop = (partition: number) => {
      queues.get(partition)?.reader?.stop()
      queues.delete(partition)
    }
    const stopReading = () => {
      for (const partition of [...queues.keys()]) drop(partition)
      positioned = false
    }

    const consumer: Consumer = {
      assigned: () => [...queues.keys()].map(partition => ({ topic: TOPIC, partition })),
      waiting: () => [...queues.values()].reduce((sum, { records }) => sum + records.length, 0),
      seek: ({ partition, offset }) => {
        const queue = queues.get(partition)
        if (!queue) return
        queue.records = []
        if (queue.reader) queue.reader.seek(offset)
        else {
          queue.reader = log.read(
            process,
            { topic: TOPIC, partition, offset },
            {
              skips: true,
              onRecords: records => {
                if (queues.get(partition) !== queue) return
                queue.records.push(...records)
                work()
              },
            },
          )
        }
      },
      halt: ({ partition }, reason) => {
        world.note(`${process.name} halts partition ${partition}: ${reason}`)
        halted.set(partition, reason)
        drop(partition)
      },
      hold: ({ partition, offset }, reason) => {
        const queue = queues.get(partition)
        if (!queue) return
        world.note(`${process.name} holds partition ${partition}: ${reason}`)
        queue.reader?.stop()
        queue.reader = null
        queue.records = []
        world.after(HOLD_MS, process, `goes on with partition ${partition}`, () => {
          if (queues.get(partition) === queue && !queue.reader)
            consumer.seek({ topic: TOPIC, partition, offset })
        })
      },
      check: () => {},
      stop: async () => {},
    }

    const takeBatch = (): IncomingRecord[] => {
      if (!positioned) return []
      const batch: IncomingRecord[] = []
      const filled = [...queues.values()].filter(({ records }) => records.length > 0)
      for (const [index, queue] of filled.entries()) {
        const share = Math.ceil((options.maxBatch - batch.length) / (filled.length - index))
        batch.push(...queue.records.splice(0, share))
      }
      return batch
    }

    const work = () => {
      if (!idle) return
      idle = false
      working = (async () => {
        for (let batch = takeBatch(); batch.length > 0 && !stopped; batch = takeBatch()) {
          for (let retryMs = FIRST_RETRY_MS; !stopped; retryMs = Math.min(2 * retryMs, LAST_RETRY_MS)) {
            try {
              await options.handle(batch, consumer)
              break
            } catch (error) {
              world.note(
                `${process.name} handles ${batch.length} records in vain: ${(error as Error).message}`,
              )
              await world.sleep(retryMs, process, 'tries its batch again')
            }
          }
        }
        idle = true
      })().catch(world.fail)
    }

    const member: Joined = {
      process,
      silentSince: null,
      assign: (partitions, told) => {
        // A late assignment of an older generation is ignored.
        if (stopped || told < mine) return
        mine = told
        stopReading()
        const assigned: TopicPartition[] = partitions
          .filter(partition => !halted.has(partition))
          .map(partition => ({ topic: TOPIC, partition }))
        for (const { partition } of assigned) queues.set(partition, { records: [], reader: null })
        positioning = positioning.then(() => position(assigned, told)).catch(world.fail)
      },
    }

    const position = async (assigned: TopicPartition[], told: number) => {
      for (
        let retryMs = FIRST_RETRY_MS;
        told === mine && !stopped;
        retryMs = Math.min(2 * retryMs, LAST_RETRY_MS)
      ) {
        try {
          const readEnds = async () => {
            const all = await log.ends(process, TOPIC)
            if (told !== mine) throw new Error('assigned anew meanwhile')
            return assigned.map(of => ({ ...of, ...all[of.partition]! }))
          }
          const positions = await options.positions(assigned, readEnds, consumer)
          if (told !== mine || stopped) return
          for (const at of positions) consumer.seek(at)
          positioned = true
          work()
          options.onAssigned?.(assigned)
          return
        } catch (error) {
          world.note(`${process.name} cannot position itself: ${(error as Error).message}`)
          await world.sleep(retryMs, process, 'positions itself again')
        }
      }
    }

    joined.set(process, member)
    members.push(member)
    rebalance()
    return {
      halted: () => halted,
      stop: async () => {
        stopped = true
        stopReading()
        members = members.filter(other => other !== member)
        joined.delete(process)
        rebalance()
        await working
      },
    }
  }
}
