#!/usr/bin/perl
#
# sql2c.pl: turns named SQL statements into C strings.
#
#   perl sql2c.pl queries.sql queries.c queries.h
#
# A statement begins with a line "-- name: outbox_fetch" and ends before the
# next one; in C it is tide_q_outbox_fetch.  Other comment lines and the closing
# semicolon are left out.  The header also has the list of all of them
# (tide_queries), which the tests go through.
#
use strict;
use warnings;

die "usage: sql2c.pl IN.sql OUT.c OUT.h\n" unless @ARGV == 3;
my ($in, $out_c, $out_h) = @ARGV;

sub read_statements
{
	my ($file) = @_;
	my (@statements, %seen);

	open(my $fh, '<', $file) or die "$file: $!\n";
	while (my $line = <$fh>)
	{
		$line =~ s/\s+\z//;
		if ($line =~ /^-- name: ([a-z][a-z0-9_]*)$/)
		{
			die "$file:$.: statement \"$1\" is there twice\n" if $seen{$1}++;
			push @statements, { name => $1, lines => [], line => $. };
		}
		elsif ($line =~ /^--\s*name/)
		{
			die "$file:$.: write \"-- name: lower_case_name\"\n";
		}
		elsif ($line =~ /^\s*(--|$)/)
		{
			next;
		}
		else
		{
			die "$file:$.: text before the first \"-- name:\"\n" unless @statements;
			push @{ $statements[-1]{lines} }, $line;
		}
	}
	close($fh);
	foreach my $s (@statements)
	{
		die "$file:$s->{line}: statement \"$s->{name}\" is empty\n" unless @{ $s->{lines} };
		$s->{lines}[-1] =~ s/;\z//
		  or die "$file:$s->{line}: statement \"$s->{name}\" does not end with a semicolon\n";
	}
	return @statements;
}

sub c_string
{
	my ($text) = @_;
	$text =~ s/(["\\])/\\$1/g;
	$text =~ s/\t/\\t/g;
	return "\"$text\"";
}

my @statements = read_statements($in);

open(my $c, '>', $out_c) or die "$out_c: $!\n";
print $c "/* Made from relay/sql/queries.sql by sql2c.pl. */\n#include \"queries.h\"\n";
foreach my $s (@statements)
{
	print $c "\nconst char tide_q_$s->{name}\[\] =\n\t",
	  join(" \"\\n\"\n\t", map { c_string($_) } @{ $s->{lines} }), ";\n";
}
print $c "\nconst TideQuery tide_queries[] = {\n",
  (map { "\t{\"$_->{name}\", tide_q_$_->{name}},\n" } @statements), "\t{NULL, NULL},\n};\n";
close($c) or die "$out_c: $!\n";

open(my $h, '>', $out_h) or die "$out_h: $!\n";
print $h "/* Made from relay/sql/queries.sql by sql2c.pl. */\n",
  "#ifndef TIDE_QUERIES_H\n#define TIDE_QUERIES_H\n\n#include <stddef.h>\n\n",
  (map { "extern const char tide_q_$_->{name}\[\];\n" } @statements),
  "\ntypedef struct TideQuery\n{\n\tconst char *name;\n\tconst char *sql;\n} TideQuery;\n\n",
  "/* All of them; ends with NULLs. */\nextern const TideQuery tide_queries[];\n\n#endif\n";
close($h) or die "$out_h: $!\n";
