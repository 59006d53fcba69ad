/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State for people: a record as JSON, a schema as a table.  For tools and the documentation, hosted
 * only.  The VMM itself never calls it: it decodes no record.
 */
#ifndef MAYFLY_SNAPSHOT_DUMP_H
#define MAYFLY_SNAPSHOT_DUMP_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "devmodel/abi/schema.h"

/* Writes the record as one JSON object and a newline: schema, version (the record's own), and the
 * fields that it has, numbers as numbers, bytes as a string of hexadecimal digits.  Returns 0;
 * -EBADMSG: the record does not fit the schema, nothing was written; -ENOMEM; -EIO: writing
 * failed. */
int state_dump(FILE *out, const struct state_schema *schema, const uint8_t *record, size_t len);

/* Writes the schema as a Markdown table, a row a field in wire order.  Returns 0, or -EIO. */
int state_describe(FILE *out, const struct state_schema *schema);

#endif
