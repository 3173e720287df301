// Connections that die at the worst moments: these tests cover the patch of the driver (patches/postgres@3.4.9.patch).
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, expect, inject, test, vi } from 'vitest'
import { type Database, isDatabaseAway, openDatabase, type Tx } from './database.ts'

const { superuserUrl } = inject('stack')
const table = `connection_test_${process.pid}`

let admin: Database

beforeAll(async () => {
  admin = openDatabase(superuserUrl, { applicationName: 'admin', maxConnections: 1 })
  await admin.unsafe(`create table ${table} (who text not null)`)
})
afterAll(async () => {
  await admin.unsafe(`drop table ${table}`)
  await admin.end()
})
beforeEach(async () => {
  await admin.unsafe(`truncate ${table}`)
})

const backendOf = async (sql: Database | Tx): Promise<number> => {
  const [row] = await sql<[{ pid: number }]>`select pg_backend_pid() as pid`
  return row.pid
}

/** Ends a back end and waits until it is gone. */
const terminate = async (pid: number) => {
  await admin`select pg_terminate_backend(${pid}, 5000)`
}

/** Whether a back end is in the middle of a statement. */
const isRunning = async (pid: number): Promise<boolean> => {
  const [row] = await admin<{ state: string }[]>`select state from pg_stat_activity where pid = ${pid}`
  return row?.state === 'active'
}

const writers = async () => (await admin.unsafe(`select who from ${table} order by who`)).map(row => row.who)

/** A pool of one connection, so that the next statement uses the connection that died. */
const openOne = () => openDatabase(superuserUrl, { applicationName: 'one', maxConnections: 1 })

test('X1: what a dead transaction still wants to do is never done, neither on its own nor in another one', async () => {
  const sql = openOne()
  const resume = Promise.withResolvers<void>()
  let pid = 0
  const late: string[] = []
  const dead = sql.begin(async tx => {
    pid = await backendOf(tx)
    await resume.promise
    await tx.unsafe(`insert into ${table} values ('the dead')`).catch(error => late.push(error.code))
    await tx.unsafe(`insert into ${table} values ('the dead')`).catch(error => late.push(error.code))
  })
  dead.catch(() => {})
  await vi.waitFor(() => expect(pid).toBeGreaterThan(0), { interval: 5 })
  await terminate(pid)
  await expect(dead).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
  // The same connection, opened again for another transaction.
  await sql.begin(async tx => {
    await tx.unsafe(`insert into ${table} values ('the living')`)
    resume.resolve()
    // The dead transaction's statements fail while the other transaction is still open.
    await vi.waitFor(() => expect(late).toHaveLength(2))
  })
  expect(late).toEqual(['CONNECTION_CLOSED', 'CONNECTION_CLOSED'])
  expect(await writers()).toEqual(['the living'])
  await sql.end()
})

test('a connection that dies under a statement fails it, and the next one knows nothing of that', async () => {
  const sql = openOne()
  for (let round = 0; round < 5; round++) {
    const pid = await backendOf(sql)
    const running = sql`select pg_sleep(30)`
    running.catch(() => {})
    await vi.waitFor(async () => expect(await isRunning(pid)).toBe(true), { interval: 5 })
    await terminate(pid)
    await expect(running).rejects.toThrow()
    expect(await sql`select 1 as one`).toEqual([{ one: 1 }])
  }
  await sql.end()
})

test('a connection that dies inside a transaction, its statement running, leaves a pool that works and ends', async () => {
  const sql = openOne()
  for (let round = 0; round < 5; round++) {
    let pid = 0
    const dead = sql.begin(async tx => {
      await tx.unsafe(`insert into ${table} values ('the dead')`)
      pid = await backendOf(tx)
      // More than the driver sends over the connection at once, so that some still wait in the transaction's own queue.
      await Promise.all(Array.from({ length: 200 }, () => tx`select pg_sleep(0.5)`))
    })
    dead.catch(() => {})
    await vi.waitFor(() => expect(pid).toBeGreaterThan(0), { interval: 5 })
    await terminate(pid)
    await expect(dead).rejects.toThrow()
    expect(await sql`select 1 as one`).toEqual([{ one: 1 }])
  }
  expect(await writers()).toEqual([])
  await sql.end()
})

test('connections that are reset, at any moment, while many work: every statement is answered, and the pool ends', async () => {
  // Resets instead of orderly ends: the driver receives an error first, and the end later.
  const target = new URL(superuserUrl)
  const sockets = new Set<Socket>()
  const proxy = createServer(client => {
    const server = connect(Number(target.port), target.hostname)
    client.pipe(server).pipe(client)
    sockets.add(client)
    for (const socket of [client, server]) socket.on('error', () => {})
    client.on('close', () => {
      sockets.delete(client)
      server.destroy()
    })
    server.on('close', () => client.destroy())
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const url = new URL(superuserUrl)
  url.port = String((proxy.address() as AddressInfo).port)
  const sql = openDatabase(url.href, { applicationName: 'reset', maxConnections: 3 })

  let busy = true
  let failed = 0
  let answered = 0
  const work = Array.from({ length: 8 }, async (_, worker) => {
    while (busy) {
      const doing: Promise<unknown> =
        worker % 2 === 0
          ? sql.begin(async tx => {
              await tx`select 1`
              await Promise.all([tx`select 2`, tx`select pg_sleep(0.002)`])
            })
          : sql`select ${worker}::int as worker`
      await doing.then(
        () => answered++,
        () => failed++,
      )
    }
  })
  for (let round = 0; round < 60; round++) {
    const before = answered
    await vi.waitFor(() => expect(answered).toBeGreaterThan(before), { timeout: 10_000, interval: 5 })
    for (const socket of sockets) socket.resetAndDestroy()
  }
  busy = false
  await Promise.all(work)
  expect(failed).toBeGreaterThan(0)
  expect(answered).toBeGreaterThan(0)
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }])
  await sql.end()
  proxy.close()
}, 30_000)

test('X1: a silent network ends each statement and transaction by its deadline, and the pool recovers', async () => {
  const target = new URL(superuserUrl)
  const sockets = new Set<Socket>()
  let silent = false
  const proxy = createServer(client => {
    const server = connect(Number(target.port), target.hostname)
    sockets.add(client).add(server)
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      from.on('data', bytes => {
        if (!silent) to.write(bytes)
      })
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        if (!silent) to.destroy()
      })
    }
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const url = new URL(superuserUrl)
  url.port = String((proxy.address() as AddressInfo).port)
  const sql = openDatabase(url.href, { applicationName: 'silent', maxConnections: 3, deadlineMs: 1_500 })
  await Promise.all([1, 2, 3].map(() => sql`select pg_sleep(0.05)`))

  const late: string[] = []
  const resume = Promise.withResolvers<void>()
  const inTransaction = sql.begin(async tx => {
    await tx.unsafe(`insert into ${table} values ('the dead')`)
    silent = true
    resume.resolve()
    await tx`select 1`.catch(error => late.push(error.code))
    await tx.unsafe(`insert into ${table} values ('the dead')`).catch(error => late.push(error.code))
  })
  inTransaction.catch(() => {})
  await resume.promise
  // More statements than connections: those that wait for a connection have the same deadline.
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => sql`select 1`))
  expect(results.every(({ status }) => status === 'rejected')).toBe(true)
  expect(results.every(answer => isDatabaseAway((answer as PromiseRejectedResult).reason))).toBe(true)
  await expect(inTransaction).rejects.toMatchObject({ code: 'QUERY_TIMEOUT' })
  expect(late).toHaveLength(2)

  silent = false
  for (const socket of sockets) socket.destroy()
  await vi.waitFor(async () => expect(await sql`select 1 as one`).toEqual([{ one: 1 }]), { timeout: 10_000 })
  expect(await Promise.all(Array.from({ length: 20 }, () => sql`select 1 as one`))).toHaveLength(20)
  expect(await writers()).toEqual([])
  await sql.end()
  await vi.waitFor(async () => {
    const left = await admin`select 1 from pg_stat_activity where application_name = 'silent'`
    expect(left).toHaveLength(0)
  })
  proxy.close()
}, 30_000)

test('of several hosts the one that takes writes is used, and one that stops taking them is left', async () => {
  const target = new URL(superuserUrl)
  const database = `failover_${process.pid}`
  await admin.unsafe(`create database ${database}`)
  target.pathname = `/${database}`
  const several = target.href.replace(target.host, `127.0.0.1:1,${target.host}`)
  const sql = openDatabase(several, { applicationName: 'several', maxConnections: 2 })
  const writing = () => sql.begin(tx => tx`create temporary table one (id int) on commit drop`)
  await writing()
  const pid = await backendOf(sql)
  await admin.unsafe(`alter database ${database} set default_transaction_read_only = on`)
  await expect(
    sql.begin(async tx => {
      await tx.unsafe('set transaction read only')
      await tx.unsafe('create table never (id int)')
    }),
  ).rejects.toMatchObject({ code: '25006' })
  // Every connection was closed; new ones find no server that takes writes.
  const none = await sql`select 1`.catch((error: unknown) => error)
  expect(isDatabaseAway(none)).toBe(true)
  await admin.unsafe(`alter database ${database} reset default_transaction_read_only`)
  await writing()
  expect(await backendOf(sql)).not.toBe(pid)
  await sql.end()
  await admin.unsafe(`drop database ${database} with (force)`)
}, 30_000)
