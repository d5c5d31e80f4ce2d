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
	one($pair->{us}, 'SET session_replication_role = replica; TRUNCATE pgbench_history', $db);
	one($pair->{us}, "VACUUM $_", $db) for qw(pgbench_branches pgbench_tellers);
	local $ENV{PGOPTIONS} = "-c synchronous_commit=$commit";
	my %before = $pair->cpu;
	my $output = $pair->pgbench('us', $db, '-n', '-M', 'prepared', '-c', $clients, '-j', 2, '-T', $seconds);
	my %after = $pair->cpu;
	my ($transactions) = $output =~ /^number of transactions actually processed: (\d+)/m or die "pgbench: $output";
	my ($tps) = $output =~ /^tps = ([\d.]+)/m or die "pgbench: $output";
	return {tps => $tps, cpu_us => ($after{us} - $before{us}) / $transactions * 1e6};
}

# Of a figure that the stamped rounds have more of than the plain ones.
sub cost
{
	my ($values, $key) = @_;
	my @plain = map { $_->{$key} } @{ $values->{plain} };
	return median(map { $_->{$key} / shift(@plain) - 1 } @{ $values->{stamped} });
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
		my %result = (clients => 8, synchronous_commit => $commit, cost => -cost($values, 'tps'), cpu_cost => cost($values, 'cpu_us'), rounds => $values);
		for my $kind (keys %DB)
		{
			my $runs = $values->{$kind};
			$result{tps}{$kind} = median(map { $_->{tps} } @$runs);
			$result{cpu_us}{$kind} = median(map { $_->{cpu_us} } @$runs);
		}
		say_progress(sprintf '  plain %.0f/s, stamped %.0f/s, cost %.1f %%; processor time %.1f and %.1f us, cost %.1f %%',
			@{ $result{tps} }{qw(plain stamped)}, $result{cost} * 100, @{ $result{cpu_us} }{qw(plain stamped)}, $result{cpu_cost} * 100);
		push @results, \%result;
	}
	$way->teardown;
	$pair->both($_, 'DROP TABLE pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history') for values %DB;
	return \@results;
}

1;
