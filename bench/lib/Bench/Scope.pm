# Bench::Scope
#		What declarations cost an application: pgbench's TPC-B with tables of the scopes global (stamps, nothing
#		asked), home (each row's column is looked at) and primary, in the region that writes; and of global with a row
#		filter or a column list for another region (an index more, which is the replica identity).  And what a filter and
#		a list cost when the WAL is read for that region.
package Bench::Scope;

use strict;
use warnings;

use Bench::Stamp;
use Bench::Util qw(one median interleave say_progress);

my @SCOPES = qw(global home primary rows columns);
my %OPTIONS = (
	global  => '{"scope": "global"}',
	home    => '{"scope": "home"}',
	primary => '{"scope": "primary", "primary": "us-east"}',
	rows    => q({"scope": "global", "residency": {"regions": {"*": "home <> ''nowhere''"}}}),
	columns => '{"scope": "global", "residency": {"regions": {"*": {"without": ["filler"]}}}}');

# The same columns in each, so that rows are as wide.
sub prepare
{
	my ($pair, $scope, $scale) = @_;
	my $db = "scope_$scope";
	one($pair->{us}, "CREATE DATABASE $db");
	one($pair->{us}, 'CREATE EXTENSION pg_tide', $db);
	$pair->pgbench('us', $db, '-q', '-i', '-s', $scale);
	one($pair->{us}, sprintf(<<~'END', $OPTIONS{$scope}), $db);
		SELECT tide.region_init('us-east'), tide.region_add('eu-west', 'host=nowhere');
		SELECT tide.class_create('c', '%s');
		ALTER TABLE pgbench_accounts ADD COLUMN home text NOT NULL DEFAULT 'us-east';
		ALTER TABLE pgbench_branches ADD COLUMN home text NOT NULL DEFAULT 'us-east';
		ALTER TABLE pgbench_tellers ADD COLUMN home text NOT NULL DEFAULT 'us-east';
		ALTER TABLE pgbench_history ADD COLUMN home text NOT NULL DEFAULT 'us-east';
		SELECT tide.table_add('pgbench_accounts', 'c'), tide.table_add('pgbench_branches', 'c'), tide.table_add('pgbench_tellers', 'c'),
			tide.table_add('pgbench_history', 'c', '{"insert_only": true}');
		VACUUM ANALYZE;
		END
	return;
}

# Seconds to decode what the slot has up to there, as a walsender does.
sub read_wal
{
	my ($pair, $scope, $upto) = @_;
	my $took = one($pair->{us}, <<~"END", "scope_$scope");
		SET synchronous_commit = off;
		SELECT clock_timestamp() AS began \\gset
		SELECT count(*) AS changes FROM pg_logical_slot_peek_binary_changes('bench_$scope', '$upto', NULL, 'proto_version', '1', 'publication_names',
			(SELECT string_agg(quote_ident(pubname), ',') FROM pg_publication WHERE pubname LIKE @{[ $scope eq 'global' ? "'tide_global%'" : "'tide_to_%'" ]})) \\gset
		SELECT extract(epoch FROM clock_timestamp() - :'began'::timestamptz), :changes;
		END
	my ($seconds, $changes) = split /\|/, $took;
	return { seconds => $seconds, changes => $changes };
}

# A row filter that lets everything pass and a column list, against none.
sub measure_filters
{
	my ($pair, $quick) = @_;
	my ($rounds, $transactions, $scale) = $quick ? (1, 800, 1) : (15, 16_000, 10);
	my @scopes = qw(global rows columns);
	my %upto;
	for my $scope (@scopes)
	{
		prepare($pair, $scope, $scale);
		one($pair->{us}, "SELECT pg_create_logical_replication_slot('bench_$scope', 'pgoutput')", "scope_$scope");
		$pair->tpcb_transactions("scope_$scope", $transactions);
		$upto{$scope} = one($pair->{us}, 'SELECT pg_current_wal_insert_lsn()');
	}
	my $values = interleave($rounds, map { my $scope = $_; $scope => sub { read_wal($pair, $scope, $upto{$scope}) } } @scopes);
	my %result = (transactions => $transactions);
	for my $scope (@scopes)
	{
		$result{us}{$scope} = median(map { $_->{seconds} * 1e6 / $_->{changes} } @{ $values->{$scope} });
		$result{times}{$scope} = median(map { $values->{$scope}[$_]{seconds} / $values->{$scope}[$_]{changes} / ($values->{global}[$_]{seconds} / $values->{global}[$_]{changes}) } 0 .. $rounds - 1);
		say_progress(sprintf 'filter: %s %.2f us a change, %.2f times', $scope, $result{us}{$scope}, $result{times}{$scope});
		one($pair->{us}, "SELECT pg_drop_replication_slot('bench_$scope')", "scope_$scope");
		one($pair->{us}, "DROP DATABASE scope_$scope");
	}
	return \%result;
}

# One database, whose class is another in each round: the same tables, the same bloat.
sub measure
{
	my ($pair, $quick) = @_;
	my ($rounds, $seconds, $scale) = $quick ? (1, 1, 1) : (25, 2, 10);
	prepare($pair, 'global', $scale);
	one($pair->{us}, 'CHECKPOINT');
	my $tps = sub
	{
		my ($scope, $commit) = @_;
		one($pair->{us}, "SELECT tide.class_create('c', '$OPTIONS{$scope}')", 'scope_global');
		return Bench::Stamp::tps($pair, 'scope_global', 8, $seconds, $commit);
	};
	my @results;
	for my $commit ($quick ? 'off' : qw(on off))
	{
		say_progress("scope: synchronous_commit = $commit");
		my $values = interleave($rounds, map { my $scope = $_; $scope => sub { $tps->($scope, $commit) } } @SCOPES);
		my %result = (clients => 8, synchronous_commit => $commit, rounds => $values);
		for my $scope (@SCOPES)
		{
			$result{tps}{$scope} = median(map { $_->{tps} } @{ $values->{$scope} });
			my %pairs = (plain => $values->{global}, stamped => $values->{$scope});
			$result{cost}{$scope} = -Bench::Stamp::cost(\%pairs, 'tps');
			$result{cpu_cost}{$scope} = Bench::Stamp::cost(\%pairs, 'cpu_us');
			say_progress(sprintf '  %s %.0f/s, costs %.1f %%, processor time %.1f %%', $scope, $result{tps}{$scope}, $result{cost}{$scope} * 100, $result{cpu_cost}{$scope} * 100);
		}
		push @results, \%result;
	}
	one($pair->{us}, 'DROP DATABASE scope_global');
	return \@results;
}

1;
