# Bench::Stamp
#		What stamping rows costs an application: pgbench's TPC-B with its tables added, and without.
#
# Many short rounds in turn, because the difference is smaller than what one round differs from the next.
package Bench::Stamp;

use strict;
use warnings;

use Bench::RowsTide;
use Bench::Util qw(one median interleave say_progress);

my %DB = (plain => 'native', stamped => 'postgres');

sub tps
{
	my ($pair, $db, $clients, $seconds, $commit) = @_;
	one($pair->{us}, 'TRUNCATE pgbench_history', $db);
	one($pair->{us}, "VACUUM $_", $db) for qw(pgbench_branches pgbench_tellers);
	local $ENV{PGOPTIONS} = "-c synchronous_commit=$commit";
	my $output = $pair->pgbench('us', $db, '-n', '-M', 'prepared', '-c', $clients, '-j', 2, '-T', $seconds);
	return $output =~ /^tps = ([\d.]+)/m ? $1 : die "pgbench: $output";
}

sub measure
{
	my ($pair, $quick) = @_;
	my ($rounds, $seconds, $scale) = $quick ? (1, 1, 1) : (25, 2, 20);
	$pair->pgbench_tables($_, $scale) for values %DB;
	my $way = Bench::RowsTide->new($pair, 'direct');
	$way->setup((map { ["pgbench_$_"] } qw(accounts branches tellers)), [ 'pgbench_history', {insert_only => \1} ]);
	$pair->settle($_) for values %DB;
	my @results;
	for my $commit ($quick ? 'off' : qw(on off))
	{
		say_progress("stamp: synchronous_commit = $commit");
		my $values = interleave($rounds, map { my $kind = $_; $kind => sub { tps($pair, $DB{$kind}, 8, $seconds, $commit) } } sort keys %DB);
		my @plain = @{ $values->{plain} };
		push @results, {
			clients => 8, synchronous_commit => $commit, tps => { map { $_ => median(@{ $values->{$_} }) } keys %DB },
			cost => median(map { 1 - $_ / shift @plain } @{ $values->{stamped} }), rounds => $values };
		say_progress(sprintf '  plain %.0f/s, stamped %.0f/s, cost %.1f %%', @{ $results[-1]{tps} }{qw(plain stamped)}, $results[-1]{cost} * 100);
	}
	$way->teardown;
	$pair->both($_, 'DROP TABLE pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history') for values %DB;
	return \@results;
}

1;
