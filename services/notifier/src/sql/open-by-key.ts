import { type Database, openDatabase } from '@pennywire/runtime/database.ts'

/**
 * Connections whose statements read tables by their indexes. A prepared statement keeps the plan of its first executions:
 * made while a table is nearly empty, that plan scans the table, and goes on to scan it when there are millions of rows.
 */
export const openByKey = (url: string, options: Parameters<typeof openDatabase>[1]): Database =>
  openDatabase(url, { ...options, connection: { ...options.connection, enable_seqscan: 'off' } })
