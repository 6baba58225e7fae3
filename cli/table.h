/*
 * table.h - aligned columns of text for a terminal or a pipe.
 *
 * Cells are copied. On a terminal the one flexible column is cut to fit the width, with
 * an ellipsis; into a pipe nothing is ever cut. An allocation that failed shows as a
 * failed text_table_print().
 */
#ifndef STOMP_CLI_TABLE_H
#define STOMP_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "cli/terminal.h"

#define TEXT_TABLE_MAX 8

struct text_column {
	const char *title;
	bool right;    /* numbers */
	bool flexible; /* may be cut */
	enum colour colour;
};

struct text_table {
	const struct text_column *columns; /* the caller's, outlives the table */
	int n_columns;
	char **cells; /* row by row */
	size_t n_cells, cap_cells;
	bool failed;
};

#define auto_text_table __attribute__((cleanup(text_table_done))) struct text_table

void text_table_init(struct text_table *t, const struct text_column *columns, int n);
void text_table_done(struct text_table *t);

/* The next cell, left to right, row by row. Names are made printable. */
void text_table_cell(struct text_table *t, const char *fmt, ...) printf_like(2, 3);

/* Only whole rows. -ENOMEM. */
must_check int text_table_print(const struct text_table *t, const struct output *o);

/* Columns that a text takes: code points, not bytes. */
size_t text_width(const char *text);

#endif
