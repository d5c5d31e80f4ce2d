# File descriptors and threads run out (F07): links say so, try again with pauses, and go on when there are some; nothing leaks.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
$mesh->sql_all('CREATE TABLE things (id int PRIMARY KEY, v text); CREATE TABLE more (id int PRIMARY KEY, v text)');
$mesh->class('shop');
$mesh->add_table('things', 'shop');
$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;
my $n = 0;

sub write_rows
{
	my ($what) = @_;
	$mesh->sql('us', join ';', map { $n++; "INSERT INTO things VALUES ($n, '$what')" } 1 .. 10);
	return;
}

sub limit
{
	my ($what, $value) = @_;
	system('prlimit', '--pid', $mesh->relay('eu')->pid, "--$what=$value:") == 0 or die "prlimit: $?";
	return;
}

sub descriptors
{
	return scalar(() = glob '/proc/' . $mesh->relay('eu')->pid . '/fd/*');
}

sub threads
{
	return scalar(() = glob '/proc/' . $mesh->relay('eu')->pid . '/task/*');
}

# Every connection of the relay ends, so it needs new ones.
sub disconnect
{
	$mesh->sql($_, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'}) for qw(us eu);
	return;
}

sub flows
{
	my ($what) = @_;
	write_rows($what);
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables("$what: rows flow", ['things']);
	return;
}

# What the log says from here on.
sub log_since
{
	my ($from) = @_;
	return substr $mesh->relay('eu')->log_text, $from;
}

# While nothing can be opened: said, with pauses, and the relay lives.
sub test_descriptors
{
	my $used = descriptors();
	my $from = length $mesh->relay('eu')->log_text;
	limit('nofile', 8);
	disconnect();
	write_rows('without descriptors');
	ok(defined wait_until(sub { log_since($from) =~ /Too many open files/ }, 30, 'the log'), 'no descriptors: the log says so');
	$from = length $mesh->relay('eu')->log_text;
	sleep 6;
	ok($mesh->relay('eu')->alive, '... the relay lives');
	my $lines = () = log_since($from) =~ /Too many open files/g;
	cmp_ok($lines, '<', 20, "... and tries again with pauses ($lines times in 6 s)");
	is($mesh->sql('eu', q{SELECT count(*) FROM things WHERE v = 'without descriptors'}), 0, '... nothing comes');
	limit('nofile', 1024);
	flows('descriptors again');
	$mesh->settle;
	ok(defined wait_until(sub { descriptors() <= $used + 2 }, 30, 'descriptors to be closed'), '... and none are left open')
	  or diag(descriptors(), " are open, were $used");
	return;
}

# Enough for the relay's own connection, not for a link's: it is said in tide.links, and another relay may run it.
sub test_start
{
	my $said = '';
	my $spare = PgTide::Relay->new(name => 'spare', conninfo => $mesh->node('eu')->relay_conninfo);
	for my $most (reverse 8 .. descriptors())
	{
		limit('nofile', $most);
		disconnect();
		wait_until(sub { ($said = $mesh->sql('eu', q{SELECT coalesce(last_error, '') FROM tide.links})) =~ /could not start a thread/ }, 3, "no start with $most");
		last if $said =~ /could not start a thread/;
	}
	like($said, qr/could not start a thread for pipeline "link:us-east": Too many open files/, 'no descriptors for a link: tide.links says so');
	my $from = length $mesh->relay('eu')->log_text;
	sleep 6;
	my $lines = () = log_since($from) =~ /could not start a thread/g;
	cmp_ok($lines, '<', 8, "... it is tried again with pauses ($lines times in 6 s)");
	$spare->start;
	flows('another relay, that has some');
	is($spare->stop, 0, 'it ends');
	limit('nofile', 1024);
	flows('descriptors again');
	return;
}

# Again and again, at every number of descriptors that it may have: none is a trap.
sub test_each_number
{
	my $used = descriptors();
	for my $most (reverse 5 .. $used + 2)
	{
		limit('nofile', $most);
		disconnect();
		sleep 0.3;
		limit('nofile', 1024) if $most % 4 == 0;
		last unless $mesh->relay('eu')->alive;
	}
	limit('nofile', 1024) if $mesh->relay('eu')->alive;
	ok($mesh->relay('eu')->alive, "from $used descriptors down to 5: the relay lives");
	flows('after every number of descriptors');
	ok(defined wait_until(sub { descriptors() <= $used + 2 }, 30, 'descriptors to be closed'), '... none are left open')
	  or diag(descriptors(), " are open, were $used");
	return;
}

# A first copy and a new pipeline need threads.
sub test_threads
{
	my $before = threads();
	my $from = length $mesh->relay('eu')->log_text;
	limit('nproc', 1);
	SKIP:
	{
		$mesh->sql('us', q{INSERT INTO more SELECT n, 'x' FROM generate_series(1, 1000) n});
		$mesh->add_table('more', 'shop');
		my $refused = wait_until(sub { log_since($from) =~ /could not start a thread/ }, 20, 'a thread to be refused');
		skip('threads can not be limited here', 1) unless defined $refused;
		ok($mesh->relay('eu')->alive, 'no threads: the relay says so, and lives');
	}
	limit('nproc', 4096);
	ok(defined $mesh->wait_copied('eu', 'us'), 'threads again: the copy ends');
	flows('threads again');
	$mesh->same_tables('... and the table is equal', ['more']);
	ok(defined wait_until(sub { threads() <= $before }, 30, 'threads to end'), '... and none are left');
	return;
}

flows('at first');
test_descriptors();
test_start();
test_each_number();
test_threads();
$mesh->nothing_special('nothing was parked, nothing copied again');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
