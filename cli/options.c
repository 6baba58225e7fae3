#include "cli/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "cli/words.h"

void options_done(struct options *o)
{
	for (int i = 0; i < OPTIONS_MAX; i++)
		free(o->joined[i]);
}

int options_wrong(const struct command_spec *spec, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "stomp %s: ", spec->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nusage: stomp %s %s\n(stomp %s --help says more)\n", spec->name,
		spec->usage, spec->name);
	return STOMP_USAGE;
}

static void print_help(const struct command_spec *spec)
{
	const struct option_spec *o = spec->options;
	int any = 0;

	printf("usage: stomp %s %s\n\n%s\n", spec->name, spec->usage, spec->about);
	printf("\noptions\n");
	for (; o && o->name; o++, any++) {
		auto_buf left = {0};

		if (o->letter)
			buf_printf(&left, "-%c, ", o->letter);
		buf_printf(&left, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ?: "");
		printf("  %-22s %s\n", left.data ?: "", o->help);
	}
	printf("  %-22s %s\n", "-h, --help", "this text");
	if (spec->example)
		printf("\nexample\n%s\n", spec->example);
}

/* The place of a long option of this name (size bytes), -1 where there is none. */
static int find_long(const struct command_spec *spec, const char *name, size_t size)
{
	const struct option_spec *o = spec->options;

	for (int i = 0; o && o[i].name; i++) {
		if (strlen(o[i].name) == size && memcmp(o[i].name, name, size) == 0)
			return i;
	}
	return -1;
}

static int find_letter(const struct command_spec *spec, char letter)
{
	const struct option_spec *o = spec->options;

	for (int i = 0; o && o[i].name; i++) {
		if (o[i].letter == letter)
			return i;
	}
	return -1;
}

static int unknown_long(const struct command_spec *spec, const char *name, size_t size)
{
	const char *names[OPTIONS_MAX + 2];
	char given[64];
	const char *near;
	int n = 0;

	for (const struct option_spec *o = spec->options; o && o->name; o++)
		names[n++] = o->name;
	names[n++] = "help";
	names[n] = NULL;
	snprintf(given, sizeof(given), "%.*s", (int)size, name);
	near = word_nearest(given, names);
	if (near)
		return options_wrong(
			spec, "there is no option --%s; did you mean --%s?", given, near);
	return options_wrong(spec, "there is no option --%s", given);
}

static int set_value(
	const struct command_spec *spec, struct options *o, int place, const char *value)
{
	char *joined;

	if (!spec->options[place].joins || !o->values[place]) {
		o->values[place] = value;
		return OPTIONS_GO_ON;
	}
	if (asprintf(&joined, "%s,%s", o->values[place], value) < 0)
		return STOMP_FAILED;
	free(o->joined[place]);
	o->joined[place] = joined;
	o->values[place] = joined;
	return OPTIONS_GO_ON;
}

/* One long option at argv[*i]; moves *i on over a value of its own. */
static int take_long(
	const struct command_spec *spec, int argc, char **argv, int *i, struct options *o)
{
	const char *name = argv[*i] + 2;
	size_t size = strcspn(name, "=");
	int place = find_long(spec, name, size);
	const struct option_spec *option;

	if (place < 0)
		return unknown_long(spec, name, size);
	option = &spec->options[place];
	if (!option->arg) {
		if (name[size])
			return options_wrong(spec, "--%s takes no value", option->name);
		return set_value(spec, o, place, "");
	}
	if (name[size])
		return set_value(spec, o, place, name + size + 1);
	if (*i + 1 >= argc)
		return options_wrong(
			spec, "--%s needs a value (%s)", option->name, option->arg);
	return set_value(spec, o, place, argv[++*i]);
}

/* A group of letters at argv[*i]. */
static int take_letters(
	const struct command_spec *spec, int argc, char **argv, int *i, struct options *o)
{
	for (const char *c = argv[*i] + 1; *c; c++) {
		int place = find_letter(spec, *c), r;

		if (place < 0)
			return options_wrong(spec, "there is no option -%c", *c);
		if (!spec->options[place].arg) {
			r = set_value(spec, o, place, "");
			if (r != OPTIONS_GO_ON)
				return r;
			continue;
		}
		if (c[1])
			return set_value(spec, o, place, c + 1);
		if (*i + 1 >= argc)
			return options_wrong(spec, "-%c needs a value (%s)", *c,
				spec->options[place].arg);
		return set_value(spec, o, place, argv[++*i]);
	}
	return OPTIONS_GO_ON;
}

static int check_count(const struct command_spec *spec, const struct options *o)
{
	if (o->n_args < spec->min_args)
		return options_wrong(
			spec, o->n_args ? "something is missing" : "say what to work on");
	if (spec->max_args >= 0 && o->n_args > spec->max_args)
		return options_wrong(
			spec, "one argument too many: %s", o->args[spec->max_args]);
	return OPTIONS_GO_ON;
}

int options_parse(const struct command_spec *spec, int argc, char **argv, struct options *o)
{
	*o = (struct options){.args = argv};
	for (int i = 1; i < argc; i++) {
		int r = OPTIONS_GO_ON;

		if (strcmp(argv[i], "--") == 0) {
			while (++i < argc)
				o->args[o->n_args++] = argv[i];
			break;
		}
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			print_help(spec);
			return STOMP_DONE;
		}
		if (strncmp(argv[i], "--", 2) == 0)
			r = take_long(spec, argc, argv, &i, o);
		else if (argv[i][0] == '-' && argv[i][1])
			r = take_letters(spec, argc, argv, &i, o);
		else
			o->args[o->n_args++] = argv[i];
		if (r != OPTIONS_GO_ON)
			return r;
	}
	return check_count(spec, o);
}
