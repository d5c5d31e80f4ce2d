# Bench::Publish
#		What publishing costs an application: against a plain INSERT, and against PgQ.
package Bench::Publish;

use strict;
use warnings;

use Bench::Util qw(one median interleave payload say_progress);

my $EVENT = payload();

my %SCRIPT = (
	pg_tide => "SELECT tide.outbox_publish('publish', 'orders', '$EVENT'::jsonb);\n",
	insert  => "INSERT INTO plain (payload) VALUES ('$EVENT'::jsonb);\n",
	pgq     => "SELECT pgq.insert_event('publish', 'orders', '$EVENT');\n");

# Empty again, so that every round starts alike.
my %RESET = (
	pg_tide => "SELECT tide.outbox_drop('publish', true); SELECT tide.outbox_create('publish')",
	insert  => 'TRUNCATE plain RESTART IDENTITY',
	pgq     => "SELECT pgq.drop_queue('publish', true); SELECT pgq.create_queue('publish')");

sub tps
{
	my ($node, $what, $clients, $seconds, $commit) = @_;
	my $file = "$ENV{TIDE_DATA}/$what.pgbench";
	open my $out, '>', $file or die "$file: $!";
	print $out $SCRIPT{$what};
	close $out;
	one($node, $RESET{$what});
	one($node, 'CHECKPOINT');
	my @command = ('pgbench', '-n', '-M', 'prepared', '-c', $clients, '-j', $clients > 2 ? 2 : $clients,
		'-T', $seconds, '-f', $file, $node->connstr('postgres'));
	local $ENV{PGOPTIONS} = "-c synchronous_commit=$commit";
	my $output = qx{@{[ join ' ', map { "'$_'" } @command ]} 2>&1};
	return $output =~ /^tps = ([\d.]+)/m ? $1 : die "pgbench: $output";
}

sub measure
{
	my ($node, $quick) = @_;
	my @kinds = qw(pg_tide insert);
	one($node, 'CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL)');
	if (eval { one($node, 'CREATE EXTENSION pgq'); one($node, "SELECT pgq.create_queue('publish')"); 1 })
	{
		push @kinds, 'pgq';
	}
	my ($rounds, $seconds) = $quick ? (1, 1) : (7, 4);
	my @results;
	for my $commit ($quick ? 'off' : qw(on off))
	{
		for my $clients (1, 8)
		{
			say_progress("publish: $clients client(s), synchronous_commit = $commit");
			my $values = interleave($rounds, map { my $kind = $_; $kind => sub { tps($node, $kind, $clients, $seconds, $commit) } } @kinds);
			my %median = map { $_ => median(@{ $values->{$_} }) } @kinds;
			push @results, {
				clients => $clients, synchronous_commit => $commit, tps => \%median, rounds => $values,
				cost_over_insert => $median{insert} / $median{pg_tide},
				$median{pgq} ? (speed_over_pgq => $median{pg_tide} / $median{pgq}) : () };
		}
	}
	one($node, "SELECT tide.outbox_drop('publish')");
	one($node, 'DROP TABLE plain');
	one($node, 'DROP EXTENSION pgq CASCADE') if @kinds == 3;
	return \@results;
}

1;
